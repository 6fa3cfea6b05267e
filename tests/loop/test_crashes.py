"""The process dies at a named point, and another one goes on."""

import json

import pytest

from agent_service.domain import (
    InterruptState,
    JsonObject,
    SessionId,
)
from agent_service.loop.agent import ORPHANED
from agent_service.model import Chunk, ToolSpec
from agent_service.tools import ToolContext, ToolOutcome, Traits
from tests.loop.checks import check_requests, rows
from tests.loop.scripted import (
    Killed,
    ScriptedModel,
    agent,
    calls,
    die,
    run_and_die,
    says,
    take_over,
)
from tests.support import Store


async def test_killed_while_the_inner_voice_speaks(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    await run_and_die(store, session_id, ScriptedModel([], [[Chunk("Fir"), die]]))
    model = ScriptedModel([says("Yes.")], [says("First.")])
    await agent(store, model).run(await take_over(store, session_id))
    assert [kind for kind, _ in await rows(store, session_id)] == ["system", "user", "assistant"]
    await _check_after_a_crash(store, session_id, nudge.interrupt_id, model)


@pytest.mark.parametrize("first_chunk", [False, True])
async def test_killed_while_the_agent_answers(store: Store, first_chunk: bool) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    before = ScriptedModel([[Chunk("No"), die] if first_chunk else [die]])
    await run_and_die(store, session_id, before)
    state = (await store.streams.interrupt(nudge.interrupt_id)).state
    assert state is (InterruptState.SEEN if first_chunk else InterruptState.DELIVERED)
    model = ScriptedModel([says("North it is.")])
    await agent(store, model).run(await take_over(store, session_id))
    assert before.sent[0] == model.sent[0]
    await _check_after_a_crash(store, session_id, nudge.interrupt_id, model)


class Dig:
    """A tool that kills its process the first time."""

    def __init__(self, repeatable: bool) -> None:
        self.traits, self.runs = Traits(repeatable=repeatable), 0
        self.spec = ToolSpec("dig", "Digs a hole.", {"type": "object"})

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        self.runs += 1
        if self.runs == 1:
            raise Killed
        return ToolOutcome("Dug.")


@pytest.mark.parametrize("repeatable", [False, True])
async def test_killed_between_a_call_and_its_response(store: Store, repeatable: bool) -> None:
    session_id = await store.session()
    replica, dig = await store.replica(), Dig(repeatable)
    doomed = agent(store, ScriptedModel([calls("dig", "dig")]), tools=[dig])
    (claim,) = await store.leases.claim_due(replica, 1)
    with pytest.raises(Killed):
        await doomed.run(claim)
    await store.leases.sign_off(replica)
    nudge = await store.nudge(session_id)

    model = ScriptedModel([says("I see.")])
    runs_before = dig.runs
    await agent(store, model, tools=[dig]).run(await take_over(store, session_id))

    assert [kind for kind, _ in await rows(store, session_id)] == [
        "user",
        "tool_call",
        "tool_call",
        "tool_response",
        "tool_response",
        "system",
        "assistant",
    ]
    answers = [message["content"] for message in model.sent[0] if message["role"] == "tool"]
    assert answers == ["Dug." if repeatable else ORPHANED] * 2
    assert dig.runs - runs_before == (2 if repeatable else 0)
    await _check_after_a_crash(store, session_id, nudge.interrupt_id, model)


async def test_killed_after_the_responses_goes_on_with_the_next_round(store: Store) -> None:
    session_id = await store.session()
    before = ScriptedModel([calls("now"), [die]])
    await run_and_die(store, session_id, before)
    nudge = await store.nudge(session_id)
    model = ScriptedModel([says("Late.")])
    await agent(store, model).run(await take_over(store, session_id))
    check_requests([*before.sent, *model.sent])
    await _check_after_a_crash(store, session_id, nudge.interrupt_id, model)


async def test_the_request_after_a_crash_is_byte_for_byte_the_one_before(store: Store) -> None:
    session_id = await store.session()
    await store.nudge(session_id, "one")
    rounds = [calls("now", text="a"), [Chunk(reasoning="r"), *calls("note", arguments='{"text": "é"}')]]
    before = ScriptedModel([*rounds, [die]])
    await run_and_die(store, session_id, before)
    model = ScriptedModel([says("Done.")])
    await agent(store, model).run(await take_over(store, session_id))
    assert json.dumps(before.sent[-1]) == json.dumps(model.sent[0])
    assert before.requests[-1].tools == model.requests[0].tools


async def _check_after_a_crash(
    store: Store, session_id: SessionId, interrupt_id: object, model: ScriptedModel
) -> None:
    kinds = await store.kinds(session_id)
    for once in ("turn_started", "interrupt_delivered", "interrupt_seen", "turn_ended"):
        assert kinds.count(once) == 1, once
    check_requests(model.sent)
    page = await store.streams.page(session_id, 0, 100)
    assert page[-1].revision == len(kinds)
    assert await store.outstanding(session_id) == 0
