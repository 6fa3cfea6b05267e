"""Which faults happen when to what: the same for the same seed. Pure."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.servers.proxy import Way

# Faults begin this often, on average, one or several at once.
EVERY_SECONDS = 2.0
_AT_ONCE = (1, 1, 2, 3)


class Kind(StrEnum):
    KILL = "kill"
    FREEZE = "freeze"
    POSTGRES_RESTART = "postgres-restart"
    FAILOVER = "failover"
    CUT = "cut"
    DELAY = "delay"
    HALF_CLOSE = "half-close"
    DROP_SIGNALS = "drop-signals"
    LISTENER_KILL = "listener-kill"
    CLOCK_SKEW = "clock-skew"
    MODEL_DOWN = "model-down"
    TOOLS_DOWN = "tools-down"


@dataclass(frozen=True)
class Fault:
    kind: Kind
    target: str
    # Since the beginning of the run.
    at_seconds: float
    # Until it is undone, at least.
    lasts_seconds: float
    # Of a line that is cut, or closed to one side.
    way: Way


@dataclass(frozen=True)
class Targets:
    agents: Sequence[str]
    gateways: Sequence[str]
    lines: Sequence[str]
    models: Sequence[str]

    def of(self, kind: Kind) -> Sequence[str]:
        match kind:
            case Kind.KILL | Kind.FREEZE:
                return [*self.agents, *self.gateways]
            case Kind.CLOCK_SKEW | Kind.DROP_SIGNALS | Kind.LISTENER_KILL:
                return self.agents
            case Kind.CUT | Kind.DELAY | Kind.HALF_CLOSE:
                return self.lines
            case Kind.MODEL_DOWN:
                return self.models
            case Kind.TOOLS_DOWN:
                return ["tools"]
            case Kind.POSTGRES_RESTART | Kind.FAILOVER:
                return ["postgres"]


def plan(
    chance: Random, seconds: float, targets: Targets, lease_seconds: float, kinds: Collection[Kind]
) -> Iterator[Fault]:
    """Each of the kinds once, as far as there is time, before any of them twice."""
    waiting: list[Kind] = []
    at = 0.0
    while at < seconds:
        for _ in range(chance.choice(_AT_ONCE)):
            waiting = waiting or chance.sample(sorted(kinds), len(kinds))
            kind = waiting.pop()
            lasts = chance.uniform(0.2, 2)
            if kind is Kind.FREEZE:
                lasts += lease_seconds
            yield Fault(kind, chance.choice(targets.of(kind)), at, lasts, chance.choice(tuple(Way)))
        at += chance.uniform(0.5, 1.5) * EVERY_SECONDS
