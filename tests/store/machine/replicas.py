"""What replicas do beside their work: leases, and the sessions that they take."""

from dataclasses import dataclass
from enum import Enum, auto

from agent_service.store.leases import Claim as Taken
from agent_service.store.leases import Leases, register, renew
from tests.store.machine.model import SUSPECT_ATTEMPTS, Hand, Key, Model, Replica
from tests.store.machine.world import HOUR, OneConnection, World, replica_id

LEASE_HOURS = 4
# More than there are sessions.
LIMIT = 100
# At the last number of takeovers a single one runs.
ALONE_ATTEMPTS = 4


@dataclass(frozen=True)
class Register:
    replica: str
    takes: bool = True

    async def perform(self, world: World) -> object:
        replica = replica_id(self.replica)
        async with world.store.database.connection() as connection:
            await register(connection, replica, "127.0.0.1:1", LEASE_HOURS * HOUR.total_seconds())
        await world.store.leases.take_at_most(replica, 10 if self.takes else 0)
        return None

    def predict(self, model: Model, told: object) -> object:
        model.replicas[self.replica] = Replica(model.clock + LEASE_HOURS, self.takes)
        return None


@dataclass(frozen=True)
class Renew:
    replica: str

    async def perform(self, world: World) -> object:
        async with world.store.database.connection() as connection:
            return await renew(connection, replica_id(self.replica), LEASE_HOURS * HOUR.total_seconds())

    def predict(self, model: Model, told: object) -> object:
        if alive := model.is_alive(self.replica):
            model.replicas[self.replica].lease_until = model.clock + LEASE_HOURS
        return alive


@dataclass(frozen=True)
class SignOff:
    """Also what a death looks like, when its lease has run out."""

    replica: str

    async def perform(self, world: World) -> object:
        await world.store.leases.sign_off(replica_id(self.replica))
        return None

    def predict(self, model: Model, told: object) -> object:
        model.replicas[self.replica].lease_until = model.clock
        return None


@dataclass(frozen=True)
class GiveBack:
    replica: str

    async def perform(self, world: World) -> object:
        await world.store.leases.give_back(replica_id(self.replica))
        return None

    def predict(self, model: Model, told: object) -> object:
        for session in model.sessions.values():
            if session.owner == self.replica:
                session.release(model.clock)
        return None


class Way(Enum):
    DUE = auto()
    FROM_DEAD = auto()
    SUSPECTS = auto()
    # What the replica has lost track of.
    OWN = auto()


@dataclass(frozen=True)
class Claim:
    """Told is which sessions were taken, and under which epochs."""

    replica: str
    way: Way
    former: str | None = None
    # What the replica knows to run.
    running: tuple[Key, ...] = ()

    async def perform(self, world: World) -> object:
        async with world.store.database.connection() as connection:
            # What is taken at random is the same each time.
            await connection.execute("SELECT setseed(0)")
            claims = await self._claim(world, Leases(OneConnection(connection)))
        names = {session_id: name for name, session_id in world.session_ids.items()}
        return sorted((names[claim.lease.session_id], claim.lease.epoch) for claim in claims)

    async def _claim(self, world: World, leases: Leases) -> list[Taken]:
        replica = replica_id(self.replica)
        match self.way:
            case Way.DUE:
                return await leases.claim_due(replica, LIMIT)
            case Way.FROM_DEAD:
                return await leases.claim_from_dead(replica, LIMIT)
            case Way.SUSPECTS:
                return await leases.claim_suspects(replica, LIMIT)
            case Way.OWN:
                former = replica_id(self.former) if self.former else None
                running = [world.lease(key) for key in self.running]
                return await leases.claim_own(replica, running, LIMIT, former)

    def predict(self, model: Model, told: object) -> object:
        taken = {name for name, _ in told} if isinstance(told, list) else set()
        chosen = taken if self._may_take(model, taken) else self.candidates(model)
        return [self._take(model, name) for name in sorted(chosen)]

    def candidates(self, model: Model) -> set[str]:
        if not model.is_alive(self.replica):
            return set()
        match self.way:
            case Way.DUE:
                return model.due()
            case Way.FROM_DEAD:
                return model.from_dead()
            case Way.SUSPECTS:
                return set(model.suspects())
            case Way.OWN:
                owners = {self.replica, self.former} - {None}
                own = [s for s in model.sessions.values() if s.owner in owners and s.state == "active"]
                return {s.name for s in own if (s.name, s.epoch) not in self.running}

    def _may_take(self, model: Model, taken: set[str]) -> bool:
        candidates = self.candidates(model)
        if self.way is Way.SUSPECTS:
            return self._may_take_suspects(model, taken)
        return taken <= candidates if model.contended else taken == candidates

    def _may_take_suspects(self, model: Model, taken: set[str]) -> bool:
        """Those of one number of takeovers at a time, at the last number a single one."""
        candidates = model.suspects() if model.is_alive(self.replica) else {}
        held = [
            s.attempts for s in model.sessions.values() if s.owner == self.replica and s.state == "active"
        ]
        running = [attempts for attempts in held if attempts >= SUSPECT_ATTEMPTS]
        numbers = {max(running)} if running else set(candidates.values())
        for number in numbers:
            of_number = {name for name, attempts in candidates.items() if attempts == number}
            room = max(0, 1 - len(running)) if number == ALONE_ATTEMPTS else LIMIT
            as_many = len(taken) == min(room, len(of_number))
            if taken <= of_number and (as_many or (model.contended and len(taken) <= room)):
                return True
        return not numbers and not taken

    def _take(self, model: Model, name: str) -> tuple[str, int]:
        session = model.sessions[name]
        unclean = self.way in (Way.FROM_DEAD, Way.SUSPECTS) and session.owner is not None
        session.attempts += unclean
        session.owner, session.epoch = self.replica, session.epoch + 1
        if self.way in (Way.DUE, Way.SUSPECTS):
            session.not_before = None
        model.hands[name, session.epoch] = Hand(name, session.epoch, session.copy())
        return name, session.epoch


@dataclass(frozen=True)
class FailExhausted:
    """Told is which session is given up."""

    async def perform(self, world: World) -> object:
        failed = await world.store.leases.fail_exhausted()
        return next((name for name, session_id in world.session_ids.items() if session_id == failed), None)

    def predict(self, model: Model, told: object) -> object:
        exhausted = model.exhausted()
        allowed = {*exhausted, None} if model.contended or not exhausted else exhausted
        name = told if told in allowed else min(exhausted, default=None)
        if isinstance(name, str):
            session = model.sessions[name]
            session.state, session.owner, session.epoch = "failed", None, session.epoch + 1
            session.tell()
        return name
