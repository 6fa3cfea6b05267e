"""Who may be claimed now, found out by claiming, without anything of it staying."""

from collections.abc import Sequence
from dataclasses import replace

from agent_service.store.leases import Leases
from tests.store.machine.model import Model
from tests.store.machine.replicas import Claim, FailExhausted, Register, Way
from tests.store.machine.world import OneConnection, Op, World, performed, predicted


def takeovers(replica: str) -> tuple[Op, ...]:
    """By a new replica, as a poll does them."""
    claims = (Claim(replica, way) for way in (Way.DUE, Way.FROM_DEAD, Way.SUSPECTS))
    return Register(replica), *claims, FailExhausted()


async def rehearse(world: World) -> list[object]:
    """What each takeover comes to."""
    async with world.store.database.connection() as connection:
        alone = OneConnection(connection)
        store = replace(world.store, database=alone, leases=Leases(alone))
        transaction = connection.transaction()
        await transaction.start()
        try:
            return [await performed(op, replace(world, doors=(store, store))) for op in takeovers("probe")]
        finally:
            await transaction.rollback()


def foreseen(model: Model, told: Sequence[object]) -> list[object]:
    """What each must come to."""
    model = model.copy()
    return [predicted(op, model, one) for op, one in zip(takeovers("probe"), told, strict=True)]
