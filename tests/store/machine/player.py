"""Does things to the store and to the model, and reads what the database says then."""

import asyncio
from collections.abc import Coroutine, Iterator
from itertools import permutations, product
from typing import TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from tests.store.machine.model import Model, Stage
from tests.store.machine.outside import End, Sweep
from tests.store.machine.reading import Reading, expected, readings
from tests.store.machine.turns import Load
from tests.store.machine.world import Op, World, performed, predicted
from tests.support import until

T = TypeVar("T")

_HOLD = "SELECT FROM sessions WHERE session_id = $1 FOR UPDATE"
_BLOCKED = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"""


class Player(RuleBasedStateMachine):
    def __init__(self, loop: asyncio.AbstractEventLoop, world: World) -> None:
        """The store belongs to the loop, which runs in another thread."""
        super().__init__()
        self._loop, self.world = loop, world
        # What the database says, by the names of the sessions.
        self.now: dict[str, Reading] = {}

    @property
    def model(self) -> Model:
        return self.world.model

    def run(self, coroutine: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def does(self, *ops: Op) -> None:
        """One after the other. Who has taken a session reads it."""
        for op in ops:
            self._do(op)
        for key in [key for key, hand in self.model.hands.items() if hand.stage is Stage.LOAD]:
            self._do(Load(key))
        self._look()
        assert self.now == predictions(self.model), ops

    def _do(self, op: Op) -> None:
        told = self.run(performed(op, self.world))
        assert predicted(op, self.model, told) == told, op

    def _look(self) -> None:
        self.now = self.run(self._read())

    async def _read(self) -> dict[str, Reading]:
        async with self.world.store.database.connection() as connection:
            return await readings(connection, self.world)

    def in_line(self, session: str, first: Op, second: Op) -> None:
        """Both wait for the session's row while somebody has it, and get it in this order."""
        told = self.run(self._in_line(session, first, second))
        self._come_to_one_of_the_outcomes(session, (first, second), told)

    def at_once(self, session: str, first: Op, second: Op) -> None:
        """How it came out is not the same each time, so that the session is ended, and of no use for more."""
        told = self.run(self._together(first, second))
        self._come_to_one_of_the_outcomes(session, (first, second), told)
        self.does(End(session))
        self.model.retire(session)

    def _come_to_one_of_the_outcomes(self, session: str, ops: tuple[Op, Op], told: list[object]) -> None:
        """It is as if one had come after the other."""
        self._look()
        outcomes = list(_serial(self.model, session, ops, told))
        fitting = [model for model in outcomes if self.now == predictions(model)]
        assert fitting, f"{ops} were told {told}, which fits {len(outcomes)} outcomes"
        self.world.model = fitting[0]
        self.does()

    async def _together(self, *ops: Op) -> list[object]:
        return await asyncio.gather(*(performed(op, self.world) for op in ops))

    async def _in_line(self, session: str, *ops: Op) -> list[object]:
        """Each is begun when the one before it is done or waits for the row."""
        connection, started = self.world.store.database.connection, list[asyncio.Task[object]]()
        async with connection() as observer, connection() as holder:

            async def all_wait() -> bool:
                done = sum(task.done() for task in started)
                return bool(done + await observer.fetchval(_BLOCKED) == len(started))

            async with holder.transaction():
                await holder.execute(_HOLD, self.world.session_ids[session])
                for op in ops:
                    started.append(asyncio.create_task(performed(op, self.world)))
                    await until(all_wait)
            return await asyncio.gather(*started)


def predictions(model: Model) -> dict[str, Reading]:
    return {session.name: expected(session) for session in model.live}


def _serial(model: Model, session: str, ops: tuple[Op, Op], told: list[object]) -> Iterator[Model]:
    """What comes of the operations in each order in which they are told the same."""
    for order in permutations(zip(ops, told, strict=True)):
        for variants in product(*([(op, said) for op in _variants(op, session)] for op, said in order)):
            outcome = model.copy()
            outcome.contended = True
            if all(predicted(op, outcome, said) == said for op, said in variants):
                outcome.contended = False
                yield outcome


def _variants(op: Op, session: str) -> list[Op]:
    return [op, Sweep(passes_by=session)] if isinstance(op, Sweep) else [op]
