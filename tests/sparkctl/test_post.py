from datetime import UTC

import grpc
import pytest

from spark.agent.v1.interrupt_pb2 import Interrupt
from sparkctl import post
from sparkctl.failures import CallFailed, CommandFailed
from tests.sparkctl.events import INTERRUPT, SESSION, nudge
from tests.sparkctl.scripted import Broken, Forever

NUDGE = Interrupt(session_id=SESSION, source="operator", nudge={"text": "Watch the trawler."})


async def test_a_post_is_repeated_under_a_request_id_of_its_own(scripted, door):
    scripted.gateway.failures = [Broken(), Broken()]

    answer = await post.post(door, NUDGE, request_id="")

    assert answer.interrupt.interrupt_id == INTERRUPT
    assert len(scripted.gateway.posted) == 3
    assert len({request.request_id for request in scripted.gateway.posted} - {""}) == 1


async def test_a_request_id_that_was_given_is_used(scripted, door):
    await post.post(door, NUDGE, request_id="mine")

    assert [request.request_id for request in scripted.gateway.posted] == ["mine"]


async def test_an_error_that_leaves_the_outcome_open_says_how_to_repeat_the_post(scripted, door):
    scripted.gateway.failures = [Broken(grpc.StatusCode.DEADLINE_EXCEEDED)]

    with pytest.raises(CallFailed, match="repeat it with --request-id mine"):
        await post.post(door, NUDGE, request_id="mine")


async def test_a_post_that_expires_is_repeated_with_the_same_time(scripted, door):
    scripted.gateway.failures = [Broken(grpc.StatusCode.DEADLINE_EXCEEDED)]
    expiring = Interrupt()
    expiring.CopyFrom(NUDGE)
    expiring.expire_time.FromJsonString("2026-01-31T10:00:00Z")

    with pytest.raises(CallFailed, match=r"--request-id mine --expires-at 2026-01-31T10:00:00Z$"):
        await post.post(door, expiring, request_id="mine")


async def test_a_refusal_is_not_repeated(scripted, door):
    scripted.gateway.failures = [Broken(grpc.StatusCode.FAILED_PRECONDITION, "it has ended", "SESSION_ENDED")]

    with pytest.raises(CallFailed, match=r"^it has ended \(SESSION_ENDED\)$"):
        await post.post(door, NUDGE, request_id="mine")
    assert len(scripted.gateway.posted) == 1


class TestWaiting:
    async def told(self, door, timeout_seconds=None):
        told = []
        await post.wait_until_seen(door, nudge(), timeout_seconds, told.append, UTC)
        return told

    async def test_tells_each_state_with_its_time(self, scripted, door):
        scripted.gateway.states = [nudge(), nudge("DELIVERED"), nudge("SEEN")]

        assert await self.told(door) == ["delivered at 02:00:12", "seen by the model at 02:00:13"]

    async def test_tells_the_states_that_were_skipped(self, scripted, door):
        scripted.gateway.states = [nudge("SEEN")]

        assert await self.told(door) == ["delivered at 02:00:12", "seen by the model at 02:00:13"]

    async def test_goes_on_when_the_gateway_was_away(self, scripted, door):
        scripted.gateway.states = [nudge("DELIVERED"), Broken(), nudge("DELIVERED"), nudge("SEEN")]

        assert await self.told(door) == ["delivered at 02:00:12", "seen by the model at 02:00:13"]

    @pytest.mark.parametrize("state", ["CANCELLED", "EXPIRED", "SUPERSEDED"])
    async def test_fails_when_it_is_settled(self, scripted, door, state):
        scripted.gateway.states = [nudge(), nudge(state)]

        with pytest.raises(CommandFailed, match=f"not seen, but {state.lower()}"):
            await self.told(door)

    async def test_fails_when_the_time_is_over(self, scripted, door):
        scripted.gateway.states = [nudge("DELIVERED"), Forever()]

        with pytest.raises(CommandFailed, match=r"not seen within 0.2 s, still delivered"):
            await self.told(door, timeout_seconds=0.2)
