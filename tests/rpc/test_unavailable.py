"""Deposits while PostgreSQL cannot write: the rows of one session, or any."""

import grpc

from spark.agent.v1.agent_service_pb2 import DepositInterruptsRequest
from tests.rpc.calls import created, deposited, nudge, reason, refused
from tests.rpc.conftest import Door

_FAIL = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW WHEN ({}) EXECUTE FUNCTION fail()"""


async def fail(door: Door, when: str) -> None:
    async with door.store.database.connection() as connection:
        await connection.execute(_FAIL.format(when))


async def test_a_call_of_which_nothing_can_be_written_fails_as_a_whole_and_may_be_repeated(
    door: Door,
) -> None:
    session_id = (await created(door)).session_id
    deposits = [nudge(session_id), nudge(session_id)]
    await fail(door, "true")
    code, why, status = await refused(
        door.stub.DepositInterrupts(DepositInterruptsRequest(deposits=deposits), timeout=10)
    )
    assert (code, why) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert "could not extend" not in str(status)
    async with door.store.database.connection() as connection:
        await connection.execute("DROP FUNCTION fail CASCADE")
    assert [result.duplicate for result in await deposited(door, *deposits)] == [False, False]


async def test_what_can_be_refused_for_good_is_refused_beside_what_cannot_be_written_now(
    door: Door,
) -> None:
    session_id = (await created(door)).session_id
    await fail(door, "true")
    without_text = nudge(session_id, text="")
    refusals = [result.error for result in await deposited(door, nudge(session_id), without_text)]
    assert [reason(error) for error in refusals] == ["UNAVAILABLE", "INVALID_FIELD"]
