"""The words in which an interrupt is shown to a model. Pure: the same row gives the same bytes for ever."""

from typing import assert_never

from agent_service.domain import Interrupt, Notification, Nudge, cut

# Stored with each row at its delivery. A row is rendered by the version it was sent with.
RENDER_VERSION = 1


def frame(interrupt: Interrupt, tag: str) -> str:
    """An interrupt between two lines with the session's tag, which nothing else in a request may hold."""
    words = without_tag(_words(interrupt), tag)
    if interrupt.shown_bytes:
        words = cut(words, interrupt.shown_bytes)
    if interrupt.left_waiting:
        words += f"\n[{interrupt.left_waiting} more wait, and come with a later step]"
    return f"<interrupt-{tag}>\n{words}\n</interrupt-{tag}>"


def without_tag(text: str, tag: str) -> str:
    """Text from outside, which must not pass for a frame. What takes its place can be in no tag: the rest
    of a text never closes up to one."""
    return text.replace(tag, "_")


def _words(interrupt: Interrupt) -> str:
    match interrupt.body:
        case Nudge(text):
            return f"[{interrupt.source}] {text}"
        case Notification(kind, subject, text, data_json):
            first = " ".join(part for part in (f"[{interrupt.source}]", kind, subject) if part)
            data = f"data: {data_json}" if data_json else ""
            return "\n".join(part for part in (first, text, data) if part)
        case unreachable:
            assert_never(unreachable)
