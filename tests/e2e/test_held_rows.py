"""Somebody has the row of one session and keeps it: posts to all others go on, at the gateway too."""

import asyncio
from uuid import uuid4

import grpc

from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.gateway.v1.gateway_service_pb2 import (
    BatchPostInterruptsRequest,
    PostInterruptRequest,
    PostInterruptResponse,
)
from tests.e2e.databases import connected
from tests.e2e.posters import house
from tests.support import until

# The deadline that the gateway gives a call without one is 5 s: what waits for the row gets nothing before.
HELD_DEADLINE_SECONDS = 60
OTHERS_DEADLINE_SECONDS = 4


def post(session_id: str) -> PostInterruptRequest:
    nudge = Interrupt(session_id=session_id, source="operator", nudge=Nudge(text="Look north."))
    return PostInterruptRequest(interrupt=nudge, request_id=str(uuid4()))


async def test_a_held_session_holds_up_no_other_at_the_gateway(database_url: str) -> None:
    async with house(database_url, sessions=2) as home, connected(database_url) as holder:
        gateway, (held, free) = home.posters.gateway, home.posters.session_ids
        waiting: list[asyncio.Task[PostInterruptResponse]] = []
        async with holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", held)
            for _ in range(3):
                posting = gateway.PostInterrupt(post(held), timeout=HELD_DEADLINE_SECONDS)
                waiting.append(asyncio.ensure_future(posting))

                async def is_served() -> bool:
                    await gateway.PostInterrupt(post(free), timeout=OTHERS_DEADLINE_SECONDS)
                    return True

                await until(is_served)
            batch = BatchPostInterruptsRequest(requests=[post(held), post(free)])
            results = (await gateway.BatchPostInterrupts(batch, timeout=OTHERS_DEADLINE_SECONDS)).results
            assert [result.WhichOneof("result") for result in results] == ["error", "interrupt"]
            assert results[0].error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        await asyncio.wait(waiting)
        # What shared its call with another one was told to try again; nothing of it is lost.
        for posted in waiting:
            failure = posted.exception()
            assert failure is None or failure.code() is grpc.StatusCode.UNAVAILABLE
        count = "SELECT count(*) FROM messages WHERE session_id = $1 AND type = 'system'"

        async def all_are_there() -> bool:
            return await holder.fetchval(count, held) == 4

        await until(all_are_there)
