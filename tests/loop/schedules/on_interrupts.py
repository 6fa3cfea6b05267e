"""What holds of interrupts: invariants 1, 2, 5, 8 and 10."""

import re
from collections import Counter
from collections.abc import Iterator

from tests.loop.schedules.evidence import Asker, Evidence, MessageRow
from tests.loop.schedules.reading import REPLIES, SafePoint, ended_from, safe_points, shown

# Where nobody knows the window.
_USUAL_WINDOW = 65_536


def acknowledged_is_there(evidence: Evidence) -> Iterator[str]:
    texts = {row.message_id: row.text for row in evidence.interrupts}
    for interrupt_id, text in evidence.witness.acknowledged.items():
        if texts.get(interrupt_id) != text:
            yield f"{text[:8]} was acknowledged and is not there"


def each_fact_is_told_once(evidence: Evidence) -> Iterator[str]:
    told = Counter((event.type, event.message_id) for event in evidence.events)
    told_then = Counter((event.type, event.message_id, event.revision) for event in evidence.events)
    for row in evidence.interrupts:
        for fact, revision in (
            ("interrupt_posted", row.posted_revision),
            ("interrupt_delivered", row.delivered_revision),
            ("interrupt_seen", row.seen_revision),
            ("interrupt_settled", row.settled_revision),
        ):
            times = told[fact, row.message_id]
            if times != (revision is not None) or told_then[fact, row.message_id, revision or 0] != times:
                yield f"{fact} of {row} is of revision {revision} and told {times} times"


def nothing_is_lost(evidence: Evidence) -> Iterator[str]:
    for row in evidence.interrupts:
        if not row.seen_revision and not row.settled_revision:
            yield f"{row} is still outstanding"
        if row.seen_revision and row.settled_revision:
            yield f"{row} was seen and {row.settled_as}"


# ---- delivery


def those_due_are_delivered_in_order(evidence: Evidence) -> Iterator[str]:
    for point in safe_points(evidence):
        due = [row for row in evidence.interrupts if _is_due(row, point)]
        delivered = [row for row in evidence.interrupts if point.has(row.delivered_revision)]
        delivered.sort(key=lambda row: row.place)
        if delivered != due[: len(delivered)]:
            yield f"{[*map(str, delivered)]} are delivered at {point} of {[*map(str, due)]}"


def as_many_are_delivered_as_there_is_room_for(evidence: Evidence) -> Iterator[str]:
    """A quarter of the window, in which three bytes are reckoned a token, holds them and those delivered
    before that are not yet answered; the last one says how many wait. After a request that was too long there
    is less room, until the next reply."""
    quarter, frames = (evidence.schedule.window or _USUAL_WINDOW) // 4, _frames(evidence)
    for point in safe_points(evidence):
        due = [row for row in evidence.interrupts if _is_due(row, point)]
        delivered = [row for row in due if point.has(row.delivered_revision)]
        left, unanswered = due[len(delivered) :], _unanswered(evidence, point)
        before = [frames.get(row.text, b"") for row in unanswered]
        now = [_without_count(frames.get(row.text, b"")) for row in delivered]
        if now and len(before + now) > 1 and sum(map(len, map(_without_count, before + now))) / 3 > quarter:
            yield f"more than a quarter of the window is delivered at {point}"
        for row in left[:1]:
            least = [*before, *now, _without_count(frames.get(row.text, b""))]
            cut = any(one.shown_bytes for one in (*unanswered, *delivered, row))
            known = row.text in frames and not cut and not _was_refused(evidence, point)
            if not before + now or (known and sum(len(frame) / 3 + 1 for frame in least) <= quarter):
                yield f"{row} is left waiting at {point}, though there is room"
        for row in delivered[-1:]:
            if (row.left_waiting or 0) != len(left):
                yield f"{row} says that {row.left_waiting} wait and not {len(left)}"


def _was_refused(evidence: Evidence, point: SafePoint) -> bool:
    replies = [row.appended_revision for row in evidence.transcript if row.type in REPLIES]
    since = max((revision for revision in replies if revision < point.first), default=0)
    return any(asked.refused and since <= asked.revision < point.first for asked in evidence.witness.asked)


def _is_due(row: MessageRow, point: SafePoint) -> bool:
    return (
        row.posted_revision < point.first
        and not (row.delivered_revision and row.delivered_revision < point.first)
        and not (row.settled_revision and row.settled_revision <= point.last and not row.position)
        and (point.of_turn or row.delivery != "next_turn")
    )


def _unanswered(evidence: Evidence, point: SafePoint) -> list[MessageRow]:
    unanswered: list[MessageRow] = []
    for row in evidence.transcript:
        if row.appended_revision < point.first and row.type == "system":
            unanswered.append(row)
        elif row.appended_revision < point.first and row.type in REPLIES:
            unanswered.clear()
    return unanswered


def _frames(evidence: Evidence) -> dict[str, bytes]:
    """How requests show the interrupts with these words."""
    return {
        row.text: frame.encode() for asked in evidence.witness.asked for row, frame in shown(evidence, asked)
    }


def _without_count(frame: bytes) -> bytes:
    """That others wait is said after it was decided how many do."""
    return re.sub(rb"\n\[\d+ more wait[^\n]*", b"", frame)


# ---- seen


def seen_is_stamped_when_it_is_read(evidence: Evidence) -> Iterator[str]:
    """During the first request of the agent that shows it and gets a first chunk. Who was cut off at that
    moment may have left it to a later one."""
    asked = evidence.witness.asked
    later = [*(one.revision for one in asked[1:]), evidence.session.revision]
    readings: dict[MessageRow, list[tuple[int, int, bool]]] = {row: [] for row in evidence.interrupts}
    for one, end in zip(asked, later, strict=False):
        if one.by is Asker.AGENT and one.begun:
            for row, _ in shown(evidence, one):
                readings[row].append((one.revision, end, one.cut))
    for row, during in readings.items():
        if row.seen_revision is None:
            if any(not cut for _, _, cut in during):
                yield f"{row} was read and is not seen"
        elif not any(start < row.seen_revision <= end for start, end, _ in during):
            yield f"{row} is seen at {row.seen_revision}, and was read during {during}"
        elif any(end < row.seen_revision and not cut for _, end, cut in during):
            yield f"{row} is seen at {row.seen_revision}, and was read before, during {during}"


def seen_comes_before_the_answer(evidence: Evidence) -> Iterator[str]:
    answers = [row for row in evidence.transcript if row.type in REPLIES]
    for row in evidence.interrupts:
        answer = next((reply for reply in answers if row.position and reply.place > row.place), None)
        if answer and (row.seen_revision or answer.appended_revision) >= answer.appended_revision:
            yield f"{row} is seen at {row.seen_revision}, and {answer} answers it"


# ---- settled


def what_settles_has_a_cause(evidence: Evidence) -> Iterator[str]:
    """Somebody withdrew it, its time came, a later one took its place, or the session ended."""
    replaced = {
        (row.source, row.coalesce_key, row.posted_revision) for row in evidence.interrupts if row.coalesce_key
    }
    for row in evidence.interrupts:
        if row.settled_revision is None:
            continue
        at_the_end = row.settled_revision >= ended_from(evidence)
        causes = {
            "cancelled": at_the_end or row.message_id in evidence.witness.withdrawn,
            "expired": row.message_id in evidence.witness.expired,
            # The two are told one after the other.
            "superseded": (row.source, row.coalesce_key, row.settled_revision + 1) in replaced,
        }
        if not causes[str(row.settled_as)]:
            yield f"{row} was {row.settled_as} without a cause"
        if row.position and not at_the_end:
            yield f"{row} was {row.settled_as} after its delivery"


def what_has_settled_is_not_shown(evidence: Evidence) -> Iterator[str]:
    for asked in evidence.witness.asked:
        for row, _ in shown(evidence, asked):
            if row.settled_revision and row.settled_revision <= asked.revision:
                yield f"{row} was {row.settled_as}, and {asked} shows it"


def outstanding_is_counted(evidence: Evidence) -> Iterator[str]:
    for column, count in evidence.witness.counts:
        if column != count:
            yield f"outstanding said {column} when {count} were"
