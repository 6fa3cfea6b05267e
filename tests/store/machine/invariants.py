"""The invariants of the design, by their numbers, of what the database says about one session."""

from itertools import pairwise

from tests.store.machine.model import Message, answer_to
from tests.store.machine.outside import principal
from tests.store.machine.reading import Reading

REPLY = ("assistant", "tool_call")


def transcript(reading: Reading) -> list[Message]:
    return sorted((m for m in reading.messages if m.position), key=lambda m: m.position or 0)


def interrupts(reading: Reading) -> list[Message]:
    return [m for m in reading.messages if m.type == "system"]


def is_open(reading: Reading, call: Message) -> bool:
    return answer_to(call.name) not in {m.name for m in reading.messages}


def each_is_delivered_once_and_in_order(reading: Reading) -> None:
    told = [(event.about, event.type) for _, event in reading.events if event.type.startswith("interrupt_")]
    assert len(told) == len(set(told))
    rows = [m for m in transcript(reading) if m.type == "system"]
    for one, next_one in pairwise(rows):
        together = next_one.delivered == (one.delivered or 0) + 1
        assert not together or one.posted < next_one.posted
    ended = reading.columns["state"] == "ended"
    for m in interrupts(reading):
        assert bool(m.position) == bool(m.delivered)
        assert not (m.settled and m.position) or ended


def calls_are_followed_by_their_responses(reading: Reading) -> None:
    open_calls: list[str] = []
    for m in transcript(reading):
        if m.type == "tool_response":
            assert m.name in open_calls
            open_calls.remove(m.name)
        else:
            assert m.type == "tool_call" or not open_calls
            if m.type == "tool_call":
                open_calls.append(answer_to(m.name))


def positions_count_what_is_appended(reading: Reading) -> None:
    rows = transcript(reading)
    assert [m.position for m in rows] == list(range(1, len(rows) + 1))
    assert reading.columns["next_position"] == len(rows) + 1
    revisions = [m.delivered or m.posted for m in rows]
    assert revisions == sorted(revisions)


def what_is_answered_was_seen(reading: Reading) -> None:
    rows = transcript(reading)
    for m in interrupts(reading):
        assert not m.seen or (m.delivered and m.seen > m.delivered)
        if m.position and not m.settled:
            answers = [row.posted for row in rows[m.position :] if row.type in REPLY]
            assert not answers or (m.seen and m.seen < answers[0])


def nothing_is_taken_back(before: Reading, now: Reading) -> None:
    """Only the holder writes, and it only appends."""
    assert now.events[: len(before.events)] == before.events
    assert [m.name for m in transcript(now)][: len(transcript(before))] == [
        m.name for m in transcript(before)
    ]
    assert before.columns["epoch"] <= now.columns["epoch"]  # type: ignore[operator]


def revisions_count_the_events(reading: Reading) -> None:
    assert [revision for revision, _ in reading.events] == list(range(1, len(reading.events) + 1))
    assert reading.columns["revision"] == len(reading.events)
    told = {(event.about, event.type): revision for revision, event in reading.events if event.about}
    for m in interrupts(reading):
        facts = {"posted": m.posted, "delivered": m.delivered, "seen": m.seen, "settled": m.settled}
        for fact, revision in facts.items():
            assert told.get((m.name, f"interrupt_{fact}")) == revision


def what_is_outstanding_is_counted(reading: Reading) -> None:
    assert reading.columns["outstanding"] == sum(m.outstanding for m in reading.messages)


def summaries_cover_what_is_answered(reading: Reading) -> None:
    rows = transcript(reading)
    for made in (m for m in rows if m.type == "summary"):
        for m in rows[: made.covers]:
            answered = any(row.type in REPLY for row in rows[m.position or 0 : (made.position or 0) - 1])
            assert m.type != "system" or answered


def the_end_leaves_nothing_open(reading: Reading) -> None:
    columns = reading.columns
    if columns["state"] == "ended":
        assert reading.events[-1][1].facts["state"] == "ended"
        assert (columns["turn_open"], columns["due"], columns["owner"]) == (False, None, None)
        assert not any(m.outstanding for m in reading.messages)
        assert not any(m.type == "tool_call" and is_open(reading, m) for m in reading.messages)


def who_posted_is_kept(reading: Reading) -> None:
    for m in interrupts(reading):
        assert m.post
        assert m.principal == principal(m.post)


def the_inner_voice_opens_every_turn(reading: Reading) -> None:
    rows = transcript(reading)
    for turn in {m.turn for m in rows if m.type in REPLY}:
        spoken = [m.type for m in rows if m.turn == turn and m.type in ("user", *REPLY)]
        assert spoken[0] == "user"
        assert spoken.count("user") == 1
