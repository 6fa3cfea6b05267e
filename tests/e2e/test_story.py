"""The story of the project, by a client that knows the contract from reflection alone: an agent works on its
own, somebody nudges it in the middle of a turn, and it goes on accordingly."""

from dataclasses import dataclass

import pytest_asyncio

from spark.agent.v1.event_pb2 import DELTA_KIND_TEXT, DELTA_KIND_TOOL_NAME, Event
from spark.agent.v1.interrupt_pb2 import (
    INTERRUPT_STATE_DELIVERED,
    INTERRUPT_STATE_PENDING,
    INTERRUPT_STATE_SEEN,
    Interrupt,
)
from spark.agent.v1.message_pb2 import MESSAGE_TYPE_ASSISTANT, MESSAGE_TYPE_TOOL_RESPONSE, Message
from spark.agent.v1.session_pb2 import SESSION_STATE_ENDED
from tests.e2e.client import Refused
from tests.e2e.conftest import Spark
from tests.e2e.events import deltas, facts, has, kind, of_interrupt, of_kind, rows, unanswered_calls
from tests.e2e.sessions import create, nudge

NUDGE = "Count the gulls on the rail"


@dataclass(frozen=True)
class Story:
    events: list[Event]
    deltas: list[Event]
    stream_end: Refused | None
    posted: Interrupt
    watched: list[Interrupt]
    watch_end: Refused | None
    messages: list[Message]
    interrupts: list[Interrupt]

    def place_of(self, name: str) -> int:
        return [kind(event) for event in self.events].index(name)

    @property
    def delivered(self) -> Interrupt:
        [delivered] = of_kind(self.events, "interrupt_delivered")
        return delivered.interrupt


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story(spark: Spark) -> Story:
    session_id = await create(spark.agent, "Keep the lamp lit.", model="demo")
    async with spark.agent.stream("StreamTranscript", session_id=session_id, include_deltas=True) as stream:
        await stream.until(
            lambda so_far: [row for row in rows(facts(so_far)) if row.type == MESSAGE_TYPE_TOOL_RESPONSE]
        )
        posted = (await spark.gateway.call("PostInterrupt", interrupt=nudge(session_id, NUDGE))).interrupt
        async with spark.gateway.stream("WatchInterrupt", interrupt_id=posted.interrupt_id) as watch:
            watch_end = await watch.end()
        await stream.until(has("turn_ended"))
        await spark.agent.call("EndSession", session_id=session_id)
        stream_end = await stream.end()
    listed = await spark.agent.call("ListMessages", session_id=session_id)
    interrupts = await spark.gateway.call("ListInterrupts", session_id=session_id)
    return Story(
        facts(stream.responses),
        deltas(stream.responses),
        stream_end,
        posted,
        [response.interrupt for response in watch.responses],
        watch_end,
        list(listed.messages),
        list(interrupts.interrupts),
    )


def test_a_post_is_acknowledged_with_the_pending_interrupt(story: Story) -> None:
    assert story.posted.state == INTERRUPT_STATE_PENDING
    assert story.posted.nudge.text == NUDGE
    assert [posted.interrupt for posted in of_kind(story.events, "interrupt_posted")] == [story.posted]
    assert story.events[story.place_of("interrupt_posted")].revision == story.posted.revision


def test_the_interrupt_is_posted_delivered_and_seen_once_each_in_this_order(story: Story) -> None:
    assert of_interrupt(story.events, story.posted.interrupt_id) == [
        "interrupt_posted",
        "interrupt_delivered",
        "interrupt_seen",
    ]


def test_it_is_delivered_in_the_middle_of_the_turn_right_before_a_model_request(story: Story) -> None:
    after = story.events[story.place_of("interrupt_delivered") + 1]
    assert kind(after) == "round_started"
    assert (story.delivered.turn, story.delivered.round) == (1, after.round_started.round)
    assert story.delivered.round > 1
    assert of_kind(story.events[story.place_of("interrupt_delivered") :], "tool_call_started")


def test_every_tool_call_before_it_has_its_response(story: Story) -> None:
    before = story.events[: story.place_of("interrupt_delivered")]
    assert of_kind(before, "tool_call_started")
    assert unanswered_calls(before) == set()


def test_positions_are_given_at_delivery_and_count_without_gaps(story: Story) -> None:
    assert story.posted.position == 0
    positions = [row.position for row in rows(story.events)]
    assert positions == sorted(positions)
    assert sorted([*positions, story.delivered.position]) == list(range(1, len(positions) + 2))
    earlier = rows(story.events[: story.place_of("interrupt_delivered")])
    assert story.delivered.position == earlier[-1].position + 1


def test_the_agents_next_words_and_its_next_note_are_about_it(story: Story) -> None:
    later = rows(story.events[story.place_of("interrupt_delivered") :])
    words = next(row for row in later if row.type == MESSAGE_TYPE_ASSISTANT)
    note = next(row for row in later if row.HasField("tool_call"))
    assert NUDGE in words.text
    assert note.tool_call.name == "note"
    assert NUDGE in note.tool_call.arguments_json
    assert not [row for row in rows(story.events) if row.position < words.position and NUDGE in row.text]


def test_it_is_seen_before_anything_of_the_answer_is_there(story: Story) -> None:
    words = next(
        event.revision
        for event in story.events[story.place_of("interrupt_delivered") :]
        if kind(event) == "message_appended"
    )
    assert story.events[story.place_of("interrupt_seen")].revision < words


def test_a_watch_of_the_interrupt_ends_well_when_it_is_seen(story: Story) -> None:
    states = [interrupt.state for interrupt in story.watched]
    assert states == sorted(set(states))
    assert set(states) <= {INTERRUPT_STATE_PENDING, INTERRUPT_STATE_DELIVERED, INTERRUPT_STATE_SEEN}
    assert states[-1] == INTERRUPT_STATE_SEEN
    assert story.watched[-1].position == story.delivered.position
    assert story.watch_end is None


def test_words_and_tool_names_are_shown_while_the_model_writes_them(story: Story) -> None:
    answer = rows(story.events)[-1]
    pieces = [
        event.text_delta
        for event in story.deltas
        if (event.text_delta.round, event.text_delta.kind) == (answer.round, DELTA_KIND_TEXT)
    ]
    shown = "".join(piece.text for piece in pieces)
    assert shown
    assert answer.text.startswith(shown)
    assert "note" in {
        event.text_delta.text for event in story.deltas if event.text_delta.kind == DELTA_KIND_TOOL_NAME
    }


def test_revisions_count_without_gaps_up_to_the_end_of_the_session(story: Story) -> None:
    assert [event.revision for event in story.events] == list(range(1, len(story.events) + 1))
    assert story.events[-1].session_changed.session.state == SESSION_STATE_ENDED
    assert story.stream_end is None


def test_the_transcript_is_listed_as_it_was_streamed(story: Story) -> None:
    assert [row for row in story.messages if not row.HasField("interrupt")] == rows(story.events)
    [shown] = [row for row in story.messages if row.HasField("interrupt")]
    assert shown.interrupt == story.watched[-1]
    assert shown.position == story.delivered.position


def test_the_interrupts_are_listed_as_they_were_watched(story: Story) -> None:
    assert story.interrupts == story.watched[-1:]
