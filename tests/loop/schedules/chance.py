"""Schedules at random."""

from datetime import timedelta
from typing import TypeVar

from hypothesis import strategies as st

from agent_service.domain import Delivery, Placement, RoundFailure, SessionConfig, SessionMode
from tests.loop.schedules.plan import (
    Act,
    Barge,
    Blow,
    Calls,
    Cut,
    Deed,
    Fails,
    Fault,
    Outward,
    Play,
    Post,
    Run,
    Says,
    SaysNothing,
    Schedule,
    Update,
)

T = TypeVar("T")

HOUR = timedelta(hours=1)
# Of the windows below the second is more than half of what may be delivered at once, and the last too long.
BYTES = (0, 400, 2000)
WINDOWS = (1000, 1500, 2400, None)


def one_of(*weighed: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of the strategies, each so often."""
    strategies = [strategy for weight, strategy in weighed for _ in range(weight)]
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


def up_to(most: int, one: st.SearchStrategy[T], least: int = 0) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(one, min_size=least, max_size=most).map(lambda drawn: tuple(drawn))


def posts() -> st.SearchStrategy[Outward]:
    plain = st.builds(
        Post, delivery=st.sampled_from(Delivery), bytes=st.sampled_from(BYTES), behind=st.booleans()
    )
    special = st.builds(
        Post,
        delivery=st.sampled_from(Delivery),
        source=st.sampled_from(["operator", "service:a"]),
        coalesced=st.booleans(),
        expires=st.booleans(),
        twice=st.booleans(),
    )
    return one_of((5, plain), (5, special), (2, st.just(Barge())))


def updates() -> st.SearchStrategy[Update]:
    changes: list[tuple[str, object]] = [
        ("goal", "Watch the sea."),
        ("tools", ("now", "act")),
        ("mode", SessionMode.ON_INTERRUPT),
        ("mode", SessionMode.AUTONOMOUS),
        ("cooldown", HOUR),
        ("disable_inner_voice", True),
        ("inner_voice_prompt", "Be brief."),
        ("max_rounds_per_turn", 1),
        ("max_turns", 2),
        ("token_budget", 1000),
    ]
    return st.sampled_from([Update(*change) for change in changes])


def outward(going_on: int) -> st.SearchStrategy[Outward]:
    """What others do; so much of it lets time pass, or the session go on."""
    deeds = [Deed.WITHDRAW, Deed.EXPIRE, Deed.EXPIRE, Deed.SWEEP, Deed.PAUSE, Deed.RESUME]
    goes_on = st.sampled_from([Deed.PASS_TIME, Deed.RESUME])
    return one_of(
        (12, posts()),
        (2, updates()),
        (4, st.sampled_from(deeds)),
        (going_on, goes_on),
        (1, st.just(Deed.END)),
    )


def meanwhile() -> st.SearchStrategy[tuple[Act, ...]]:
    """What happens while a model or a tool is at work: mostly nothing."""
    acts: st.SearchStrategy[Act] = one_of((3, outward(going_on=1)), (1, st.sampled_from(Blow)))
    return one_of((2, st.just(())), (1, up_to(2, acts, least=1)))


def trouble() -> st.SearchStrategy[Fails | SaysNothing]:
    reasons = [reason for reason in RoundFailure if reason is not RoundFailure.INTERRUPTED]
    return one_of(
        (2, st.builds(Fails, st.sampled_from(reasons))),
        (2, st.just(Fails(RoundFailure.CONTEXT_OVERFLOW))),
        (1, st.just(Fails(RoundFailure.MODEL_UNAVAILABLE, late=True))),
        (1, st.just(SaysNothing())),
    )


def words() -> st.SearchStrategy[Says]:
    return st.builds(Says, st.sampled_from(BYTES), st.booleans())


def calls() -> st.SearchStrategy[Calls]:
    tools = st.sampled_from(["act", "act", "soft", "soft", "again", "now", "note", "wait", "wait", "fly"])
    seldom = one_of((9, st.just(False)), (1, st.just(True)))
    return st.builds(Calls, up_to(4, tools, least=1), st.booleans(), seldom)


def plays(
    *replies: tuple[int, st.SearchStrategy[Says | Calls | Fails | SaysNothing]],
) -> st.SearchStrategy[Play]:
    return st.builds(Play, one_of(*replies), meanwhile(), meanwhile())


def runs() -> st.SearchStrategy[Run]:
    faults = st.builds(Fault, st.integers(1, 12), st.sampled_from(Cut))
    return st.builds(Run, up_to(4, outward(going_on=10)), one_of((2, st.none()), (1, faults)))


def configs() -> st.SearchStrategy[SessionConfig]:
    return st.builds(
        SessionConfig,
        model=st.just("scripted"),
        disable_inner_voice=st.booleans(),
        mode=st.sampled_from(SessionMode),
        cooldown=st.sampled_from([timedelta(0), HOUR]),
    )


def schedules() -> st.SearchStrategy[Schedule]:
    return st.builds(
        Schedule,
        runs=up_to(8, runs(), least=2),
        agent=up_to(10, plays((6, calls()), (3, words()), (2, trouble())), least=2),
        voice=up_to(4, plays((3, words()), (1, trouble()))),
        summaries=up_to(3, plays((3, words()), (1, trouble()))),
        tools=up_to(6, meanwhile()),
        config=configs(),
        window=st.sampled_from(WINDOWS),
        placement=st.sampled_from(Placement),
        counts=st.booleans(),
    )
