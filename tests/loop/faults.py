"""Things that happen at a named point: right before a method of the store, or right after what it commits."""

import copy
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import pytest

from agent_service.domain import ReplicaId, SessionId
from agent_service.errors import Unavailable
from agent_service.model import Model
from agent_service.store.leases import Claim
from tests.loop.scripted import agent
from tests.support import Store

Step = Callable[[], Awaitable[object]]


class Point(NamedTuple):
    """Before or after the commit of a method of the transcript or of the safe points."""

    part: Literal["transcript", "safe_points"]
    method: str
    after: bool


def store_with(store: Store, point: Point, step: Step) -> Store:
    """The same store, where a step of the test's own is taken at a point."""
    part = copy.copy(getattr(store, point.part))
    method = getattr(part, point.method)

    async def with_step(*arguments: object) -> object:
        if not point.after:
            await step()
        result = await method(*arguments)
        if point.after:
            await step()
        return result

    setattr(part, point.method, with_step)
    return replace(store, **{point.part: part})


async def lose_track(store: Store, session_id: SessionId, model: Model, point: Point) -> ReplicaId:
    """Claim the session and run it until nobody knows whether a write happened. The replica lives on."""

    async def cut() -> None:
        raise Unavailable("the outcome of a commit is not known")

    replica, leases = await store.replica(), store.leases
    (claim,) = await leases.claim_due(replica, 1) or await leases.claim_from_dead(replica, 1)
    assert claim.lease.session_id == session_id
    with pytest.raises(Unavailable):
        await agent(store_with(store, point, cut), model).run(claim)
    return replica


async def claim_again(store: Store, replica: ReplicaId) -> list[Claim]:
    """What the next poll of a replica that has forgotten everything takes."""
    own = await store.leases.claim_own(replica, [], 10)
    return own + await store.leases.claim_due(replica, 10)


async def forget_pause(store: Store, session_id: SessionId) -> None:
    """Let the back-off of the session be over."""
    async with store.database.connection() as connection:
        await connection.execute(
            "UPDATE sessions SET not_before = NULL, due_at = now() WHERE session_id = $1", session_id
        )
