"""What holds of what a model is sent: invariants 3, 4 and 12."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from agent_service.domain import JsonObject, Placement
from tests.loop.schedules.evidence import Asker, Evidence
from tests.loop.schedules.reading import asked_by, call_ids, marks, said_by, said_in, shown, visible


def calls_are_shown_with_their_responses(evidence: Evidence) -> Iterator[str]:
    for asked in asked_by(evidence, Asker.AGENT, Asker.SUMMARY):
        waiting: list[str] = []
        for message in [*asked.messages, {"role": "nobody"}]:
            if message["role"] == "tool":
                if message["tool_call_id"] not in waiting[:1]:
                    yield f"{asked} shows a response to {message['tool_call_id']} where {waiting} wait"
                waiting = waiting[1:]
            else:
                if waiting:
                    yield f"{asked} shows {waiting} without their responses"
                waiting = call_ids(message)


def the_agent_is_shown_the_rows(evidence: Evidence) -> Iterator[str]:
    if evidence.schedule.placement is Placement.TEXT:
        yield from _is_shown_as_text(evidence, Asker.AGENT)
        return
    for asked in asked_by(evidence, Asker.AGENT):
        rows = said_by(visible(evidence, asked.next_position))
        if said_in(evidence, asked) != rows:
            yield f"{asked} says {said_in(evidence, asked)} and not {rows}"


def the_inner_voice_is_shown_the_rows(evidence: Evidence) -> Iterator[str]:
    yield from _is_shown_as_text(evidence, Asker.VOICE)


def _is_shown_as_text(evidence: Evidence, asker: Asker) -> Iterator[str]:
    for asked in asked_by(evidence, asker):
        rows = [mark for row in visible(evidence, asked.next_position) for mark in marks(row.text)]
        said = [mark for message in asked.messages[1:] for mark in marks(message["content"])]
        if said != rows or any(message.get("tool_calls") for message in asked.messages):
            yield f"{asked} says {said} and not {rows}"


def requests_grow_at_their_end(evidence: Evidence) -> Iterator[str]:
    """From one compaction to the next, or until something has to be shown shorter. What stands before the
    conversation changes with a turn at most."""
    for asker in (Asker.AGENT, Asker.VOICE):
        for before, after in pairwise(asked_by(evidence, asker)):
            events = evidence.events[before.revision : after.revision]
            between = {event.type for event in events}
            if "compacted" in between or any(event.shortens for event in events):
                continue
            if not _only_grows(before.messages[1:], after.messages[1:]):
                yield f"{after} does not begin as {before} was"
            told = before.messages[0] == after.messages[0] and before.request.tools == after.request.tools
            if not told and "turn_started" not in between:
                yield f"{after} begins otherwise than {before}, in the same turn"


def _only_grows(before: Sequence[JsonObject], after: Sequence[JsonObject]) -> bool:
    """The last message may grow, as long as no assistant's follows it."""
    if not before:
        return True
    *head, last = before
    if len(after) < len(before) or list(after[: len(head)]) != head:
        return False
    grown, rest = after[len(head)], after[len(before) :]
    return grown == last or (
        {**grown, "content": ""} == {**last, "content": ""}
        and str(grown["content"]).startswith(str(last["content"]))
        and all(message["role"] != "assistant" for message in rest)
    )


def an_interrupt_always_looks_the_same(evidence: Evidence) -> Iterator[str]:
    """Until something has to be shown shorter."""
    looks: dict[tuple[str, int], set[str]] = {}
    for asked in evidence.witness.asked:
        shortened = sum(event.shortens for event in evidence.events[: asked.revision])
        for row, frame in shown(evidence, asked):
            looks.setdefault((str(row), shortened), set()).add(frame)
    yield from (f"{row} was shown in {len(them)} ways" for (row, _), them in looks.items() if len(them) > 1)
