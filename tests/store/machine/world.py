"""The store as two replicas have it, and what the names of the model stand for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Protocol
from uuid import NAMESPACE_OID, uuid5

from agent_service.domain import Lease, MessageId, ReplicaId, SessionId
from agent_service.errors import LeaseLost, SparkError
from agent_service.store.database import Database, Hot
from agent_service.store.standing import Standing
from tests.store.machine.model import Model, Refused
from tests.support import Store

HOUR = timedelta(hours=1)
NOBODY = SessionId(uuid5(NAMESPACE_OID, "nobody"))


@dataclass
class World:
    doors: tuple[Store, Store]
    model: Model = field(default_factory=Model)
    session_ids: dict[str, SessionId] = field(default_factory=dict)
    # By the names of session and interrupt.
    interrupt_ids: dict[tuple[str, str], MessageId] = field(default_factory=dict)
    # What workers have loaded, and at which hour of the model.
    loaded: dict[tuple[str, int], tuple[Standing, int]] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.doors[0]

    def lease(self, key: tuple[str, int]) -> Lease:
        name, epoch = key
        return Lease(self.session_ids[name], epoch)

    def standing(self, key: tuple[str, int]) -> Standing:
        """What a worker has loaded; after an hour it knows that this is old."""
        standing, hour = self.loaded[key]
        return standing if hour == self.model.clock else replace(standing, read_at=-inf)

    def at(self, hour: int) -> datetime:
        """An hour of the model, as the database tells the time."""
        return datetime.now(UTC) + (hour - self.model.clock) * HOUR


def replica_id(name: str) -> ReplicaId:
    return ReplicaId(uuid5(NAMESPACE_OID, name))


class OneConnection(Database):
    """The database as whoever has this connection sees it."""

    def __init__(self, connection: Hot) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Hot]:
        yield self._connection


class Op(Protocol):
    """Something that somebody does, in one transaction: for real, and in the model.

    Both give what the caller is told. Where there is a choice the prediction takes the one that was `told`,
    if it is among those allowed.
    """

    async def perform(self, world: World) -> object: ...
    def predict(self, model: Model, told: object) -> object: ...


async def performed(op: Op, world: World) -> object:
    """What the caller is told, the name of the error if it is one."""
    try:
        return await op.perform(world)
    except (SparkError, LeaseLost) as error:
        return type(error).__name__


def predicted(op: Op, model: Model, told: object) -> object:
    try:
        return op.predict(model, told)
    except Refused as refused:
        return refused.args[0]
