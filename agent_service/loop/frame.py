"""The words in which an interrupt is shown to a model. Pure: the same row gives the same bytes for ever."""

import re
from collections.abc import Mapping, Sequence
from typing import assert_never

from agent_service.domain import Interrupt, Json, Notification, Nudge, cut
from agent_service.loop.control_tokens import defused

# Stored with each row at its delivery. A row is rendered by the version it was sent with.
RENDER_VERSION = 2
_FIRST_VERSION = 1

_THOUGHT = re.compile("(</?think>)")
# A further line that looks like the first one of an interrupt.
_HEADING = re.compile(r"^\[", re.MULTILINE)


def frame(interrupt: Interrupt, tag: str) -> str:
    """An interrupt between two lines with the session's tag, which nothing else in a request may hold."""
    words = without_tag(_words(interrupt), tag)
    if interrupt.render_version != _FIRST_VERSION:
        words = defused(words)
    if interrupt.shown_bytes:
        words = cut(words, interrupt.shown_bytes)
    if interrupt.left_waiting:
        words += f"\n[{interrupt.left_waiting} more wait, and come with a later step]"
    return f"<interrupt-{tag}>\n{words}\n</interrupt-{tag}>"


def without_tag(text: str, tag: str) -> str:
    """Text from outside, which must not pass for a frame. What takes its place can be in no tag: the rest
    of a text never closes up to one."""
    return text.replace(tag, "_")


def harmless(text: str, tag: str) -> str:
    """What anybody but the service itself says: neither a frame nor a token of a chat template."""
    return defused(without_tag(text, tag))


def harmless_json(value: Json, tag: str) -> Json:
    """The same of everything in a value, whatever JSON may call it."""
    match value:
        case str():
            return harmless(value, tag)
        case Mapping():
            return {harmless(key, tag): harmless_json(item, tag) for key, item in value.items()}
        case Sequence():
            return [harmless_json(item, tag) for item in value]
        case _:
            return value


def own_words(text: str, tag: str) -> str:
    """What a model answered. Its chat template knows what to do with thoughts that its server left in."""
    parts = _THOUGHT.split(text)
    return "".join(part if _THOUGHT.fullmatch(part) else harmless(part, tag) for part in parts)


def _words(interrupt: Interrupt) -> str:
    source = f"[{interrupt.source}]"
    match interrupt.body:
        case Nudge(text) if interrupt.render_version == _FIRST_VERSION:
            return f"{source} {text}"
        case Nudge(text):
            return f"{source} {_HEADING.sub(' [', text)}"
        case Notification(kind, subject, text, data_json):
            first = " ".join(part for part in (source, kind, subject) if part)
            data = f"data: {data_json}" if data_json else ""
            if interrupt.render_version == _FIRST_VERSION:
                return "\n".join(part for part in (first, text, data) if part)
            quoted = [f"> {line}" for part in (text, data) if part for line in part.split("\n")]
            return "\n".join([first, *quoted])
        case unreachable:
            assert_never(unreachable)
