"""A machine of rules plays with the store, and a model of the rules says what must come of it.

`pytest tests/store/test_machine.py --hypothesis-profile=long` plays far more of it, each time another.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from agent_service.settings import Limits
from agent_service.store.database import Database
from tests.store.machine import invariants, steps
from tests.store.machine.model import MAX_PENDING, MAX_PENDING_PER_SOURCE, Config, Model
from tests.store.machine.outside import Create, Deposits
from tests.store.machine.player import Player
from tests.store.machine.reading import Reading
from tests.store.machine.rehearsal import foreseen, rehearse, takeovers
from tests.store.machine.replicas import Register, SignOff
from tests.store.machine.world import Op, World
from tests.support import open_store

T = TypeVar("T")

LIMITS = Limits(
    max_text_bytes=1000,
    max_data_bytes=1000,
    max_pending=MAX_PENDING,
    max_pending_per_source=MAX_PENDING_PER_SOURCE,
)
TABLES = ("sessions", "messages", "events", "replicas")


def drawn(of: Callable[[Model], st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """By what the model says at that time."""
    return st.runner().flatmap(lambda machine: of(machine.model))


def one_of(of: Callable[[Model], Sequence[T]]) -> st.SearchStrategy[T]:
    return drawn(lambda model: st.sampled_from(of(model)))


CHOICES = st.lists(st.integers(0, 10_000), min_size=1, max_size=12)


def about_each(check: Callable[[Reading], None]) -> Callable[[Player], None]:
    """An invariant of what the database says about each session."""

    def holds(machine: Player) -> None:
        for reading in machine.now.values():
            check(reading)

    holds.__name__ = check.__name__
    return invariant()(holds)


class Machine(Player):
    # What the database said after the step before.
    before: Mapping[str, Reading] = MappingProxyType({})

    # ---- what happens

    @initialize(config=st.sampled_from(steps.CONFIGS))
    def begins(self, config: Config) -> None:
        self.run(self._empty())
        self.does(Register("r0"), Register("r1"), Create("s0", config))

    async def _empty(self) -> None:
        async with self.world.store.database.connection() as connection:
            for table in TABLES:
                await connection.execute(f"DELETE FROM {table}")

    @precondition(lambda machine: machine.model.live)
    @rule(door=st.integers(0, 1), wishes=st.lists(steps.WISHES, min_size=1, max_size=4), then=CHOICES)
    def deposits(self, door: int, wishes: list[steps.Wish], then: list[int]) -> None:
        posts = [wish.post(self.model, number) for number, wish in enumerate(wishes)]
        self.does(Deposits(door, tuple(posts)))
        self.works(then)

    @rule(op=drawn(steps.clients), then=CHOICES)
    def clients(self, op: Op, then: list[int]) -> None:
        self.does(op)
        self.works(then)

    @rule(op=drawn(steps.replicas), then=CHOICES)
    def replicas(self, op: Op, then: list[int]) -> None:
        self.does(op)
        self.works(then)

    @rule(choices=CHOICES)
    def works(self, choices: list[int]) -> None:
        """Replicas take sessions and go on with their turns."""
        for choice in choices:
            self.does(steps.picked(steps.work(self.model), choice))

    @precondition(lambda machine: steps.holders(machine.model))
    @rule(replica=one_of(steps.holders), times=st.sampled_from([1, 1, 5]))
    def deaths(self, replica: str, times: int) -> None:
        """One worker after the other takes the same sessions, and dies of it."""
        for _ in range(times):
            self.does(SignOff(replica))
            replica = steps.new_replica(self.model)
            self.does(*takeovers(replica))

    @precondition(lambda machine: steps.at_work(machine.model))
    @rule(meetings=st.lists(steps.MEETINGS, min_size=1, max_size=6))
    def two_in_line(self, meetings: list[steps.Meeting]) -> None:
        for meeting in meetings:
            names = steps.at_work(self.model)
            if names and (two := meeting.ops(self.model, names)):
                self.in_line(*two)

    @precondition(lambda machine: steps.grown(machine.model))
    @rule(meeting=steps.MEETINGS)
    def two_at_once(self, meeting: steps.Meeting) -> None:
        if two := meeting.ops(self.model, steps.grown(self.model)):
            self.at_once(*two)

    # ---- what must be so

    @invariant()
    def those_may_be_taken_that_are_due(self) -> None:
        rehearsed = self.run(rehearse(self.world))
        assert rehearsed == foreseen(self.model, rehearsed)

    @invariant()
    def invariant_1_what_is_acknowledged_is_there(self) -> None:
        for session, name in self.world.interrupt_ids:
            if session in self.now:
                assert name in {message.name for message in self.now[session].messages}

    invariant_2 = about_each(invariants.each_is_delivered_once_and_in_order)
    invariant_3 = about_each(invariants.calls_are_followed_by_their_responses)
    invariant_4 = about_each(invariants.positions_count_what_is_appended)
    invariant_5 = about_each(invariants.what_is_answered_was_seen)

    @invariant()
    def invariant_6_nothing_is_taken_back(self) -> None:
        for name in self.before.keys() & self.now.keys():
            invariants.nothing_is_taken_back(self.before[name], self.now[name])
        self.before = self.now

    invariant_7 = about_each(invariants.revisions_count_the_events)
    invariant_8 = about_each(invariants.what_is_outstanding_is_counted)
    invariant_9 = about_each(invariants.summaries_cover_what_is_answered)
    invariant_10 = about_each(invariants.the_end_leaves_nothing_open)
    invariant_11 = about_each(invariants.who_posted_is_kept)
    invariant_12 = about_each(invariants.the_inner_voice_opens_every_turn)


def chosen() -> settings:
    """How much is played: the same each time, unless a long game is asked for."""
    long = settings.get_current_profile_name() == "long"
    most = settings() if long else settings(max_examples=14, derandomize=True)
    return settings(
        most,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


# A long game has no end of its own.
@pytest.mark.timeout(0)
async def test_whatever_happens_the_database_says_what_the_rules_say(database: Database) -> None:
    loop = asyncio.get_running_loop()
    async with open_store(database, LIMITS) as one, open_store(database, LIMITS) as other:

        def machine() -> Machine:
            return Machine(loop, World((one, other)))

        await asyncio.to_thread(run_state_machine_as_test, machine, settings=chosen())
