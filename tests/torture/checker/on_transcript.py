"""What holds of the transcript: invariants 3, 4, 6 and 9."""

import re
from collections import Counter
from collections.abc import Iterator

from tests.torture.checker.evidence import Finding, Session, call_key
from tests.torture.checker.rows import REPLIES, MessageRow

_LISTED = re.compile(r"^- \[([^\]]*)\] \S+$", re.MULTILINE)
_OLDER = re.compile(r"^- (\d+) older", re.MULTILINE)
# So many are listed at most; where the window is small, fewer.
_MOST_LISTED = 50


def calls_are_followed_by_their_responses(session: Session) -> Iterator[Finding]:
    """Those of an open turn may still be without."""
    waiting: list[tuple[int, int, str | None]] = []
    for row in session.transcript:
        if row.type == "tool_call":
            waiting.append(call_key(row))
        elif row.type == "tool_response" and call_key(row) in waiting:
            waiting.remove(call_key(row))
        elif row.type == "tool_response":
            yield f"{row} answers no call", call_key(row)
        elif waiting:
            yield f"{row} stands between calls and their responses", waiting
            waiting.clear()
    if waiting and not session.row.turn_open:
        yield "calls have no response, and their turn is over", waiting


def positions_count_what_is_appended(session: Session) -> Iterator[Finding]:
    places = [row.place for row in session.transcript]
    if places != list(range(1, session.row.next_position)):
        yield f"the positions before {session.row.next_position} are not what there is", places
    revisions = [row.appended_revision for row in session.transcript]
    if revisions != sorted(set(revisions)):
        yield "positions are not given in the order of appending", revisions


# ---- one writer


def a_round_has_one_reply(session: Session) -> Iterator[Finding]:
    replies = Counter((rows[0].turn, rows[0].round) for rows in session.replies)
    for place, count in replies.items():
        if count > 1:
            yield f"round {place} has {count} replies", place
    for rows in session.replies:
        if len({row.posted_at for row in rows}) > 1:
            yield f"the reply of {rows[0]} was written more than once", [str(row) for row in rows]


def turns_and_rounds_are_counted(session: Session) -> Iterator[Finding]:
    """A round that has its reply is followed by the next one, any other by another attempt at it."""
    turn = number = attempt = 0
    is_open, has_reply = False, True
    for event in session.events:
        told, row = event.told, session.by_id.get(event.message_id or "")
        match event.type:
            case "turn_started":
                if is_open or told.turn != turn + 1:
                    yield f"turn {told.turn} is started after turn {turn}", f"open: {is_open}"
                turn, number, attempt, is_open, has_reply = told.turn, 0, 0, True, True
            case "round_started":
                due = (turn, number + 1, 1) if has_reply else (turn, number, attempt + 1)
                if (told.turn, told.round, told.attempt) != due:
                    yield f"{event} starts {told.turn, told.round, told.attempt}", f"{due} is due"
                number, attempt, has_reply = told.round, told.attempt, False
            case "message_appended" if row and row.type in REPLIES:
                if (row.turn, row.round) != (turn, number):
                    yield f"{row} belongs to {row.turn, row.round}", f"written in {turn, number}"
                has_reply = True
            case "turn_ended":
                if not is_open or told.turn != turn:
                    yield f"turn {told.turn} is ended in turn {turn}", f"open: {is_open}"
                is_open = False
    if (turn, is_open) != (session.row.turn, session.row.turn_open):
        yield f"turn {turn} is open: {is_open}", f"the session says {session.row.turn, session.row.turn_open}"


def every_turn_was_claimed_and_given_back(session: Session) -> Iterator[Finding]:
    """Either raises the epoch."""
    answered = sum(event.told.reason == "answered" for event in session.of_type("turn_ended"))
    if session.row.lease_epoch < 2 * answered:
        yield f"{answered} turns are over", f"the epoch is {session.row.lease_epoch}"


# ---- compaction


def summaries_cover_what_is_answered(session: Session) -> Iterator[Finding]:
    covered_before, rows = 0, {row.place: row for row in session.transcript}
    for summary in session.summaries:
        through = summary.covers_through_position
        if not covered_before < through < summary.place:
            yield f"{summary} covers through {through}", f"the one before through {covered_before}"
        last, next_one = rows.get(through), rows.get(through + 1)
        if last and next_one and not _is_boundary(last, next_one):
            yield f"{summary} ends in the middle of a round", str(last)
        covered_before = through
    yield from _unanswered(session)


def _unanswered(session: Session) -> Iterator[Finding]:
    """What a summary covers is followed by a reply that was there when it was written."""
    last_reply, open_since = 0, 0
    for row in session.transcript:
        if row.type in REPLIES:
            last_reply = row.place
        elif row.type in ("user", "system") and open_since <= last_reply:
            open_since = row.place
        elif row.type == "summary" and last_reply < open_since <= row.covers_through_position:
            yield f"{row} covers through {row.covers_through_position}", f"{open_since} is not answered"


def _is_boundary(before: MessageRow, after: MessageRow) -> bool:
    same_round = (before.turn, before.round) == (after.turn, after.round)
    of_one_reply = before.type in REPLIES and after.type in REPLIES and same_round
    return after.type != "tool_response" and not of_one_reply


def summaries_list_what_was_handled(session: Session) -> Iterator[Finding]:
    told = {event.message_id: event.told for event in session.of_type("compacted")}
    delivered = [row for row in session.transcript if row.type == "system"]
    count = 0
    for summary in session.summaries:
        while count < len(delivered) and delivered[count].place <= summary.covers_through_position:
            count += 1
        event = told.get(summary.message_id)
        if event is None or event.handled_interrupts != count:
            yield f"{summary} covers {count} interrupts", f"told: {event and event.handled_interrupts}"
        listed = _LISTED.findall(summary.text)[-min(count, _MOST_LISTED) :] if count else []
        older = sum(map(int, _OLDER.findall(summary.text)[-1:]))
        newest = [row.source for row in delivered[count - len(listed) : count]]
        if len(listed) + older < count or listed != newest:
            yield f"{summary} does not list the {count} interrupts that it covers", listed
