"""What holds of the transcript and the events: invariants 3, 4, 6, 7, 9, 10 and 12."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tests.loop.schedules.evidence import Evidence, MessageRow
from tests.loop.schedules.reading import REPLIES, ended_from

# What only the holder of a session writes.
_OF_HOLDER = frozenset(
    {
        "turn_started",
        "round_started",
        "message_appended",
        "tool_call_started",
        "interrupt_delivered",
        "interrupt_seen",
        "round_failed",
        "compacted",
        "turn_ended",
    }
)

_WOKEN = "Woken"


def calls_are_followed_by_their_responses(evidence: Evidence) -> Iterator[str]:
    waiting: list[tuple[int, int, str | None]] = []
    for row in evidence.transcript:
        key = row.turn, row.round, row.call_id
        if row.type == "tool_call":
            waiting.append(key)
        elif row.type == "tool_response" and key in waiting:
            waiting.remove(key)
        elif row.type == "tool_response":
            yield f"{row} answers no call"
        elif waiting:
            yield f"{row} stands between {waiting} and their responses"
    if waiting:
        yield f"{waiting} have no response"


def who_is_woken_is_told_by_what(evidence: Evidence) -> Iterator[str]:
    for row, following in pairwise([*evidence.transcript, None]):
        is_woken = row and row.type == "tool_response" and row.text.startswith(_WOKEN)
        if is_woken and (following is None or following.type != "system"):
            yield f"{row} tells of an interrupt, and none follows"


def positions_count_what_is_appended(evidence: Evidence) -> Iterator[str]:
    rows = evidence.transcript
    if [row.place for row in rows] != list(range(1, evidence.session.next_position)):
        yield f"{[row.place for row in rows]} are not the positions before {evidence.session.next_position}"
    revisions = [row.appended_revision for row in rows]
    if revisions != sorted(set(revisions)) or 0 in revisions:
        yield f"positions are not given in the order of appending: {revisions}"


def only_the_holder_writes(evidence: Evidence) -> Iterator[str]:
    events = [event for event in evidence.events if event.revision < ended_from(evidence)]
    for start, end in evidence.witness.lost:
        written = [event for event in events if start < event.revision <= end and event.type in _OF_HOLDER]
        if written:
            yield f"{[event.type for event in written]} were written by a worker that had lost the session"


def each_claim_raises_the_epoch(evidence: Evidence) -> Iterator[str]:
    """And the attempts, but only where a worker has died."""
    claims = evidence.witness.claims
    if any(before.epoch >= after.epoch for before, after in pairwise(claims)):
        yield f"epochs are not raised by every claim: {[claim.epoch for claim in claims]}"
    for claim in claims:
        if claim.attempts - claim.attempts_before != claim.from_dead:
            yield f"attempts went wrong at {claim}"


def revisions_count_the_events(evidence: Evidence) -> Iterator[str]:
    revisions = [event.revision for event in evidence.events]
    if revisions != list(range(1, evidence.session.revision + 1)):
        yield f"{revisions} are not the revisions up to {evidence.session.revision}"
    times = [event.create_time for event in evidence.events]
    if times != sorted(times):
        yield "revisions are not in the order of time"


# ---- compaction


def summaries_cover_what_is_answered(evidence: Evidence) -> Iterator[str]:
    rows, covered_before = evidence.transcript, 0
    for summary in (row for row in rows if row.type == "summary"):
        through, earlier = summary.covers_through_position, rows[: summary.place - 1]
        answered = max((row.place for row in earlier if row.type in REPLIES), default=0)
        open_to_answer = [r for r in rows[:through] if r.type in ("user", "system") and r.place > answered]
        if through <= covered_before:
            yield f"{summary} covers nothing new"
        if open_to_answer:
            yield f"{summary} covers {[*map(str, open_to_answer)]}, which nobody has answered"
        if through < len(earlier) and not _is_boundary(earlier[through - 1], earlier[through]):
            yield f"{summary} ends in the middle of a round"
        covered_before = through


def _is_boundary(before: MessageRow, after: MessageRow) -> bool:
    of_one_reply = before.type in REPLIES and after.type in REPLIES
    same_round = (before.turn, before.round) == (after.turn, after.round)
    return after.type != "tool_response" and not (of_one_reply and same_round)


def summaries_list_what_they_cover(evidence: Evidence) -> Iterator[str]:
    told = {event.message_id: event.data or {} for event in evidence.of_type("compacted")}
    for summary in (row for row in evidence.transcript if row.type == "summary"):
        covered = evidence.transcript[: summary.covers_through_position]
        handled = sum(row.type == "system" for row in covered)
        older = sum(map(int, re.findall(r"\n- (\d+) older", summary.text)))
        if summary.text.count("\n- [") + older != handled:
            yield f"{summary} does not list {handled} interrupts as handled"
        if told[summary.message_id]["handled_interrupts"] != handled:
            yield f"{told[summary.message_id]} does not tell of {handled} interrupts"


# ---- turns and rounds


def nothing_follows_the_end(evidence: Evidence) -> Iterator[str]:
    ends = [e.revision for e in evidence.of_type("session_changed") if (e.data or {})["state"] == "ended"]
    if ends and ends != [evidence.session.revision]:
        yield f"the session ended at {ends}, and its last revision is {evidence.session.revision}"


def the_inner_voice_speaks_once_in_each_turn(evidence: Evidence) -> Iterator[str]:
    spoken = [row.turn for row in evidence.transcript if row.type == "user"]
    answered = {row.turn for row in evidence.transcript if row.type in REPLIES}
    if sorted(set(spoken)) != spoken or not answered <= set(spoken):
        yield f"the inner voice spoke in the turns {spoken}, and the agent in {sorted(answered)}"


def turns_and_rounds_are_counted(evidence: Evidence) -> Iterator[str]:
    """A round that has its reply is followed by the next one, any other by another attempt at it."""
    rows = {row.message_id: row for row in evidence.messages}
    turn = number = attempt = 0
    is_open = replied = False
    for event in evidence.events:
        data, row = event.data or {}, rows.get(event.message_id) if event.message_id else None
        told = data.get("turn"), data.get("round"), data.get("attempt")
        match event.type:
            case "turn_started":
                turn, number, attempt, replied = turn + 1, 0, 0, True
                if is_open or told[0] != turn:
                    yield f"turn {told[0]} is started where {turn} is due"
                is_open = True
            case "round_started":
                number, attempt = (number + 1, 1) if replied else (number, attempt + 1)
                replied = False
                if told != (turn, number, attempt):
                    yield f"round {told} is started where {turn, number, attempt} is due"
            case "round_failed":
                if not is_open or told[:2] != (turn, number) or (number and told[2] != attempt):
                    yield f"round {told} has failed in {turn, number, attempt}"
            case "message_appended" if row and row.type in REPLIES:
                replied = True
                if (row.turn, row.round) != (turn, number):
                    yield f"{row} of {row.turn, row.round} is appended in {turn, number}"
            case "turn_ended":
                if not is_open or told[0] != turn:
                    yield f"turn {told[0]} is ended in turn {turn}"
                is_open = False
    if is_open:
        yield f"turn {turn} is still open"


def a_round_is_interrupted_once(evidence: Evidence) -> Iterator[str]:
    failures = [event.data or {} for event in evidence.of_type("round_failed")]
    interrupted = Counter(
        (data["turn"], data["round"]) for data in failures if data["reason"] == "interrupted"
    )
    yield from (f"round {place} was interrupted {n} times" for place, n in interrupted.items() if n > 1)
