"""Who may be claimed now, found out by claiming, without anything of it staying."""

from collections.abc import Sequence
from dataclasses import replace

from agent_service.store.leases import Leases
from tests.store.machine.model import Model
from tests.store.machine.replicas import Claim, FailExhausted, Way
from tests.store.machine.world import OneConnection, Op, World, performed, predicted

# A replica that does nothing else.
PROBE = "probe"


def takeovers(replica: str) -> tuple[Op, ...]:
    """As a poll does, without what the replica has already."""
    return *(Claim(replica, way) for way in (Way.DUE, Way.FROM_DEAD, Way.SUSPECTS)), FailExhausted()


async def rehearse(world: World) -> list[object]:
    """What each takeover comes to."""
    async with world.store.database.connection() as connection:
        store = replace(world.store, leases=Leases(OneConnection(connection)))
        stage = replace(world, doors=(store, store))
        transaction = connection.transaction()
        await transaction.start()
        try:
            return [await performed(op, stage) for op in takeovers(PROBE)]
        finally:
            await transaction.rollback()


def foreseen(model: Model, told: Sequence[object]) -> list[object]:
    """What each must come to."""
    model = model.copy()
    return [predicted(op, model, one) for op, one in zip(takeovers(PROBE), told, strict=True)]
