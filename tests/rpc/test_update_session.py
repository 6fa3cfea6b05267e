from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from spark.agent.v1.agent_service_pb2 import (
    EndSessionRequest,
    GetSessionRequest,
    PauseSessionRequest,
    StreamTranscriptRequest,
    UpdateSessionRequest,
)
from spark.agent.v1.session_pb2 import (
    ACTIVITY_QUEUED,
    SESSION_MODE_AUTONOMOUS,
    SESSION_MODE_ON_INTERRUPT,
    SESSION_STATE_PAUSED,
    Session,
    SessionConfig,
)
from tests.rpc.calls import created, refused, violated
from tests.rpc.conftest import Door


async def updated(door: Door, session_id: str, *paths: str, **fields: object) -> Session:
    session = Session(session_id=session_id, **fields)  # type: ignore[arg-type]
    request = UpdateSessionRequest(session=session, update_mask=FieldMask(paths=paths))
    return (await door.stub.UpdateSession(request, timeout=10)).session


async def read(door: Door, session_id: str) -> Session:
    return (await door.stub.GetSession(GetSessionRequest(session_id=session_id))).session


async def test_what_the_mask_names_is_changed_and_the_rest_stays(door: Door) -> None:
    config = SessionConfig(model="demo", tools=["now"], max_turns=3)
    before = await created(door, display_name="lamp", labels={"team": "a"}, config=config)
    sent = SessionConfig(tools=["note"], cooldown=Duration(seconds=5), max_turns=9)
    after = await updated(
        door, before.session_id, "goal", "config.tools", "config.cooldown", goal="Put it out.", config=sent
    )
    expected = Session()
    expected.CopyFrom(before)
    expected.goal, expected.revision = "Put it out.", 2
    expected.config.tools[:] = ["note"]
    expected.config.cooldown.seconds = 5
    assert after == expected == await read(door, before.session_id)


async def test_a_client_may_read_change_and_send_back_without_a_mask(door: Door) -> None:
    session = await created(door, display_name="lamp", labels={"team": "a"})
    session.goal = "Put it out."
    session.labels["env"] = "test"
    response = await door.stub.UpdateSession(UpdateSessionRequest(session=session))
    session.revision = 2
    assert response.session == session


async def test_repeating_an_update_changes_nothing(door: Door) -> None:
    session_id = (await created(door)).session_id
    first = await updated(door, session_id, "goal", goal="Put it out.")
    assert await updated(door, session_id, "goal", goal="Put it out.") == first
    assert first.revision == 2


async def test_an_emptied_model_is_the_default_one(door: Door) -> None:
    session_id = (await created(door, config=SessionConfig(model="demo"))).session_id
    assert (await updated(door, session_id, "config.model")).config.model == "local"


async def test_a_model_that_is_no_longer_configured_does_not_block_another_change(door: Door) -> None:
    session_id = (await created(door)).session_id
    async with door.store.database.connection() as connection:
        await connection.execute(
            """UPDATE sessions SET config = config || '{"model": "gone"}' WHERE session_id = $1""", session_id
        )
    after = await updated(door, session_id, "goal", "config.max_turns", goal="Put it out.")
    assert (after.goal, after.config.model) == ("Put it out.", "gone")
    code, why, _ = await refused(updated(door, session_id, "config", config=after.config))
    assert (code, why) == (grpc.StatusCode.FAILED_PRECONDITION, "CONFIG_NOT_FOUND")


async def test_an_update_is_streamed_as_the_session_then_was(door: Door) -> None:
    session_id = (await created(door)).session_id
    stream = door.stub.StreamTranscript(StreamTranscriptRequest(session_id=session_id, after_revision=1))
    await updated(door, session_id, "goal", goal="Put it out.")
    await updated(door, session_id, "goal", goal="Light it.")
    goals: list[str] = []
    async for response in stream:
        goals += [event.session_changed.session.goal for event in response.events]
        if len(goals) == 2:
            break
    stream.cancel()
    assert goals == ["Put it out.", "Light it."]


async def test_a_new_mode_counts_at_once(door: Door) -> None:
    idle = await created(door, config=SessionConfig(mode=SESSION_MODE_ON_INTERRUPT))
    to_work = SessionConfig(mode=SESSION_MODE_AUTONOMOUS)
    working = await updated(door, idle.session_id, "config.mode", config=to_work)
    assert working.activity == ACTIVITY_QUEUED
    assert working.HasField("next_turn_time")
    to_rest = SessionConfig(mode=SESSION_MODE_ON_INTERRUPT)
    resting = await updated(door, idle.session_id, "config.mode", config=to_rest)
    assert resting.activity == idle.activity
    assert not resting.HasField("next_turn_time")


async def test_a_paused_session_is_updated_and_stays_paused(door: Door) -> None:
    session_id = (await created(door)).session_id
    await door.stub.PauseSession(PauseSessionRequest(session_id=session_id))
    after = await updated(door, session_id, "goal", goal="Put it out.")
    assert (after.goal, after.state) == ("Put it out.", SESSION_STATE_PAUSED)


async def test_updates_of_different_fields_at_the_same_time_all_count(door: Door) -> None:
    session_id = (await created(door)).session_id
    await asyncio.gather(
        updated(door, session_id, "goal", goal="Put it out."),
        updated(door, session_id, "labels", labels={"team": "b"}),
        updated(door, session_id, "display_name", display_name="light"),
        *(updated(door, session_id, "config.max_turns", config=SessionConfig(max_turns=7)) for _ in range(5)),
    )
    after = await read(door, session_id)
    assert (after.goal, after.display_name, dict(after.labels)) == ("Put it out.", "light", {"team": "b"})
    assert (after.config.max_turns, after.revision) == (7, 5)


@pytest.mark.parametrize(
    ("fields", "paths", "field"),
    [
        ({}, ["goal"], "session.goal"),
        ({"goal": "x" * 17_000}, ["goal"], "session.goal"),
        ({"config": SessionConfig(max_turns=-1)}, ["config.max_turns"], "session.config.max_turns"),
        ({"goal": "Put it out."}, ["goal", "colour"], "update_mask.paths"),
        ({"goal": "Put it out."}, ["goal", "state"], "update_mask.paths"),
        ({}, [], "update_mask"),
    ],
)
async def test_a_refused_update_names_the_field_and_changes_nothing(
    door: Door, fields: dict[str, object], paths: Sequence[str], field: str
) -> None:
    session_id = (await created(door)).session_id
    code, why, status = await refused(updated(door, session_id, *paths, **fields))
    assert (code, why, violated(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field)
    assert (await read(door, session_id)).revision == 1


@pytest.mark.parametrize(
    "request_", [UpdateSessionRequest(), UpdateSessionRequest(session=Session(goal="x"))]
)
async def test_an_update_without_a_session_id_is_refused(door: Door, request_: UpdateSessionRequest) -> None:
    _, why, status = await refused(door.stub.UpdateSession(request_))
    assert (why, violated(status)) == ("INVALID_FIELD", "session.session_id")


async def test_what_is_ended_or_does_not_exist_is_not_updated(door: Door) -> None:
    code, why, _ = await refused(updated(door, str(uuid4()), "goal", goal="Put it out."))
    assert (code, why) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    session_id = (await created(door)).session_id
    await door.stub.EndSession(EndSessionRequest(session_id=session_id))
    code, why, _ = await refused(updated(door, session_id, "goal", goal="Put it out."))
    assert (code, why) == (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ENDED")
