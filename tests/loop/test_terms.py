"""What a turn runs with is fixed at its start: an update counts from the next turn on."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from agent_service.domain import InterruptState, RoundFailed, RoundFailure, Session, SessionId
from agent_service.errors import ConfigNotFound
from agent_service.loop.agent import Agent
from agent_service.loop.interruption import Interruption
from agent_service.loop.profiles import Profiles
from agent_service.loop.spread import Spread
from agent_service.model import Model, ModelError, Request
from agent_service.tools import Toolbox
from agent_service.tools.builtin import builtin_tools
from tests.loop.checks import check_requests
from tests.loop.compactions import happenings
from tests.loop.faults import forget_pause
from tests.loop.parked import HOUR, park
from tests.loop.scripted import Killed, ScriptedModel, calls, die, run_and_die, run_turn, says, take_over
from tests.support import Store


def changed(session: Session) -> Session:
    """Everything that a turn runs with is another."""
    config = replace(
        session.config,
        model="large",
        inner_voice_model="small",
        tools=("now",),
        inner_voice_prompt="Say what the lamp needs.",
    )
    return replace(session, goal="Put the lamp out.", config=config)


def with_models(store: Store, models: Mapping[str, Model]) -> Agent:
    def named(name: str) -> Model:
        if name not in models:
            raise ConfigNotFound("model", name, tuple(models))
        return models[name]

    return Agent.of(
        store.transcript,
        store.safe_points,
        store.room,
        named,
        Profiles(named, store.model_profiles),
        Toolbox(builtin_tools(), max_output_bytes=1000, timeout_seconds=60),
        store.wakeups,
        Interruption(store.safe_points, store.wakeups, poll_seconds=0.2),
        Spread(),
        asyncio.Event(),
    )


def told(request: Request) -> tuple[str, list[str]]:
    """The system prompt and the names of the tools."""
    return str(request.messages[0]["content"]), [tool.name for tool in request.tools]


async def update(store: Store, session_id: SessionId, change: Callable[[Session], Session] = changed) -> None:
    await store.sessions.update(session_id, change)


def assert_changed(request: Request) -> None:
    prompt, tools = told(request)
    assert "Put the lamp out." in prompt
    assert "Keep the lamp." not in prompt
    assert tools == ["now"]


async def test_a_turn_goes_on_as_it_began_and_the_next_one_runs_with_what_was_changed(store: Store) -> None:
    session_id = await store.session()

    async def change() -> None:
        await update(store, session_id)

    demo = ScriptedModel(
        [[*calls("now"), change], calls("note", arguments='{"text": "Dark."}'), says("Yes.")]
    )
    large, small = ScriptedModel([says("No.")]), ScriptedModel([])
    running = with_models(store, {"demo": demo, "large": large, "small": small})

    await running.run(await store.take(session_id))
    assert [told(request) for request in demo.requests] == [told(demo.requests[0])] * 3
    assert "Keep the lamp." in told(demo.requests[0])[0]
    assert "Noted." in str(demo.sent[2][-1]["content"])
    assert (len(demo.voice_requests), large.sent) == (1, [])
    check_requests(demo.sent)

    await running.run(await store.take(session_id))
    (request,) = large.requests
    assert_changed(request)
    voice = str(small.voice_requests[0].messages[0]["content"])
    assert "Put the lamp out." in voice
    assert "Say what the lamp needs." in voice
    # The transcript is the same: only what comes before it is another.
    assert list(large.sent[0][1 : len(demo.sent[2])]) == list(demo.sent[2][1:])


async def test_a_turn_goes_on_as_it_began_after_a_crash_too(store: Store) -> None:
    session_id = await store.session()
    before = ScriptedModel([calls("now"), [die]])
    await run_and_die(store, session_id, before)
    await update(store, session_id)
    after = ScriptedModel([calls("note", arguments='{"text": "Dark."}'), says("Yes.")])
    await with_models(store, {"demo": after}).run(await take_over(store, session_id))
    assert after.requests[0] == before.requests[1]
    check_requests([*before.sent, *after.sent])
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_a_turn_goes_on_as_it_began_after_a_wait(store: Store) -> None:
    parked = await park(store, calls("wait", arguments=HOUR))
    await update(store, parked.session_id)
    await store.nudge(parked.session_id)
    await parked.run()
    assert told(parked.model.requests[1]) == told(parked.model.requests[0])
    check_requests(parked.model.sent)
    assert "turn_ended" not in await store.kinds(parked.session_id)


async def test_a_turn_whose_model_is_configured_no_more_goes_on_with_what_the_session_has_by_now(
    store: Store,
) -> None:
    session_id = await store.session()
    before = ScriptedModel([calls("now"), [die]])
    await run_and_die(store, session_id, before)
    nudge = await store.nudge(session_id)
    large, small = ScriptedModel([calls("now"), [die], says("Yes.")]), ScriptedModel([])
    running = with_models(store, {"large": large, "small": small})

    await running.run(await take_over(store, session_id))
    (failed,) = await happenings(store, session_id, RoundFailed)
    assert failed.reason is RoundFailure.MODEL_REFUSED

    await update(store, session_id)
    await forget_pause(store, session_id)
    replica = await store.replica()
    (claim,) = await store.leases.claim_due(replica, 1)
    with pytest.raises(Killed):
        await running.run(claim)
    await store.leases.sign_off(replica)
    assert_changed(large.requests[0])
    # The transcript is the same.
    assert large.sent[0][1 : len(before.sent[1])] == before.sent[1][1:]
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.SEEN

    # After a crash too, though the session has another model again.
    await update(store, session_id, lambda now: replace(now, config=replace(now.config, model="small")))
    await running.run(await take_over(store, session_id))
    check_requests(large.sent)
    assert small.sent == []
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_what_was_changed_counts_in_the_same_turn_once_the_session_is_resumed(store: Store) -> None:
    """It may be what the turn has stopped for: a tool, say, that the server refuses."""
    session_id = await store.session()
    refused = ModelError(RoundFailure.MODEL_REFUSED, "HTTP 400")
    demo, large = ScriptedModel([calls("now"), [refused]]), ScriptedModel([calls("now"), says("Yes.")])
    running = with_models(store, {"demo": demo, "large": large, "small": ScriptedModel([])})
    await running.run(await store.take(session_id))
    await update(store, session_id)
    await store.sessions.pause(session_id)
    await store.sessions.resume(session_id)
    await running.run(await store.take(session_id))
    assert_changed(large.requests[0])
    check_requests(large.sent)
    assert (await store.kinds(session_id)).count("turn_started") == 1
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_a_turn_that_was_only_paused_goes_on_as_it_began(store: Store) -> None:
    session_id = await store.session()
    before = ScriptedModel([calls("now"), [die]])
    await run_and_die(store, session_id, before)
    await store.sessions.pause(session_id)
    await store.sessions.resume(session_id)
    after = ScriptedModel([says("Yes.")])
    await with_models(store, {"demo": after}).run(await take_over(store, session_id))
    assert after.requests[0] == before.requests[1]


async def test_a_turn_goes_on_with_its_own_model_as_long_as_that_is_configured(store: Store) -> None:
    session_id = await store.session()
    await run_and_die(store, session_id, ScriptedModel([calls("now"), [die]]))
    await update(store, session_id)
    demo, large, small = ScriptedModel([says("Yes.")]), ScriptedModel([]), ScriptedModel([])
    running = with_models(store, {"demo": demo, "large": large, "small": small})
    await running.run(await take_over(store, session_id))
    assert (len(demo.sent), large.sent, small.sent) == (1, [], [])


async def test_an_inner_voice_that_failed_is_asked_again_as_before(store: Store) -> None:
    session_id = await store.session()
    failure = ModelError(RoundFailure.MODEL_UNAVAILABLE, "HTTP 503")
    model = ScriptedModel([says("Yes.")], [[failure]])
    running = with_models(store, {"demo": model})
    await running.run(await store.take(session_id))
    await update(store, session_id)
    await forget_pause(store, session_id)
    await running.run(await store.take(session_id))
    assert model.voice_requests[0] == model.voice_requests[1]
    assert "Keep the lamp." in str(model.sent[0])


async def test_what_is_changed_between_two_turns_counts_from_the_next_one(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([says("Yes."), says("No."), says("Yes.")])
    await run_turn(store, session_id, model)
    await update(store, session_id)
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    first, second, third = (told(request) for request in model.requests)
    assert first != second == third
    check_requests(model.sent[1:])


async def test_what_is_changed_while_the_first_turn_is_about_to_start_is_taken_up(store: Store) -> None:
    await _assert_taken_up_at_the_start(store, await store.session())


async def test_what_is_changed_while_a_later_turn_is_about_to_start_is_taken_up(store: Store) -> None:
    session_id = await store.session()
    await run_turn(store, session_id, ScriptedModel([says("Yes.")]))
    await _assert_taken_up_at_the_start(store, session_id)


async def test_the_prompt_stays_as_long_as_the_goal_does_whatever_the_service_would_say_today(
    store: Store,
) -> None:
    session_id = await store.session()
    model = ScriptedModel([says("Yes.") for _ in range(3)])
    await run_turn(store, session_id, model)
    async with store.database.connection() as connection:
        await connection.execute("UPDATE sessions SET system_prompt = 'As an older version said it.'")
    await update(store, session_id, lambda now: replace(now, config=replace(now.config, tools=("now",))))
    await run_turn(store, session_id, model)
    assert told(model.requests[1]) == ("As an older version said it.", ["now"])
    await update(store, session_id, lambda now: replace(now, goal="Put the lamp out."))
    await run_turn(store, session_id, model)
    assert "Put the lamp out." in told(model.requests[2])[0]


async def _assert_taken_up_at_the_start(store: Store, session_id: SessionId) -> None:
    """Changed after the session was read and before its turn is opened."""

    class Changing(ScriptedModel):
        async def context_window(self) -> int | None:
            await update(store, session_id)
            return None

    model = Changing([says("No.")])
    await run_turn(store, session_id, model)
    prompt, tools = told(model.requests[0])
    assert "Put the lamp out." in prompt
    assert tools == ["now"]
    assert "Put the lamp out." in str(model.voice_requests[0].messages[0]["content"])
