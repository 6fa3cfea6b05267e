"""Servers that refuse at work what they were thought to take."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

import pytest

from agent_service.domain import (
    JsonObject,
    Placement,
    Profile,
    RoundFailed,
    RoundFailure,
    SessionId,
)
from agent_service.loop.profiles import Profiles
from agent_service.model import Chunk, Model, ModelError, Request, Served
from tests.loop.checks import check_requests
from tests.loop.compactions import compactions, forget_pause, happenings, said
from tests.loop.scripted import Script, ScriptedModel, agent, calls, run_turn, says
from tests.loop.test_terms import with_models
from tests.servers.chat_template import ChatTemplate, own_template
from tests.support import Store

SYSTEM, USER, TOOL, TEXT = Placement
NUDGE = "Look north."
IN_PLACE, STRICT = own_template("takes_system"), own_template("refuses_late_system")
UNREACHABLE = ModelError(RoundFailure.MODEL_UNAVAILABLE, "nobody there")


def refusing(condition: str) -> str:
    """A template that refuses messages for which this is true."""
    loop = "{%- for message in messages %}\n"
    check = f"{{%- if {condition} %}}{{{{- raise_exception('Not like this.') }}}}{{% endif %}}\n"
    return IN_PLACE.replace(loop, loop + check, 1)


FRAMED = "'<interrupt-' in message.content and '</interrupt-' in message.content and not loop.first"


@dataclass
class Server(ScriptedModel):
    """Plays its scripts for requests that its template takes. The prompts that it shows may be another's."""

    template: str = IN_PLACE
    shown: str = IN_PLACE
    down: bool = False
    # What was asked only to see whether it is taken.
    trials: list[Request] = field(default_factory=list)
    served = Served("http://lamp/v1", "keeper")

    async def render(self, request: Request) -> str | None:
        if self.down:
            raise UNREACHABLE
        return ChatTemplate(self.shown).prompt(request)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if self.down:
            raise UNREACHABLE
        if request.max_tokens:
            self.trials.append(request)
        ChatTemplate(self.template).prompt(request)
        if request.max_tokens:
            yield Chunk("Y")
            return
        async for chunk in super().stream(request):
            yield chunk


def nudged_in(store: Store, session_id: SessionId, *more: Script) -> list[Script]:
    """A round with a call, during which a nudge comes."""

    async def nudge() -> None:
        await store.nudge(session_id, NUDGE)

    return [[nudge, *calls("now")], *more]


async def placements(store: Store, session_id: SessionId) -> list[str]:
    async with store.database.connection() as connection:
        found = await connection.fetch(
            "SELECT placement FROM messages WHERE session_id = $1 AND type = 'system' ORDER BY position",
            session_id,
        )
    return [row["placement"] for row in found]


def where(messages: list[JsonObject]) -> list[str]:
    """The roles of the messages after the system prompt that say something from outside."""
    return [str(message["role"]) for message in messages[1:] if NUDGE in str(message["content"])]


async def learnt(store: Store, model: Model) -> Profile | None:
    """What another replica knows."""
    profiles = Profiles(lambda name: model, store.model_profiles)
    await profiles.learn(["demo"])
    return profiles.known("demo")


async def test_an_interrupt_that_is_refused_goes_to_the_next_place_down_and_is_seen_there(
    store: Store,
) -> None:
    session_id = await store.session()
    model = Server(nudged_in(store, session_id, says("Seen.")), template=STRICT)
    await run_turn(store, session_id, model)
    assert [where(messages) for messages in model.sent] == [[], ["user"]]
    assert await placements(store, session_id) == ["user"]
    kinds = await store.kinds(session_id)
    assert kinds[-6:] == [
        "round_started",
        "round_failed",
        "round_started",
        "interrupt_seen",
        "message_appended",
        "turn_ended",
    ]
    assert await learnt(store, model) == Profile(USER)
    check_requests(model.sent)


async def test_the_refusal_is_told_with_what_was_done_about_it(store: Store) -> None:
    session_id = await store.session()
    model = Server(nudged_in(store, session_id, says("Seen.")), template=STRICT)
    await run_turn(store, session_id, model)
    (failed,) = await happenings(store, session_id, RoundFailed)
    assert (failed.reason, failed.attempt) == (RoundFailure.MODEL_REFUSED, 1)
    assert failed.retry_time is None
    assert failed.detail.startswith("interrupts are refused as system, and are placed as user from now on: ")
    assert failed.detail.endswith("System message must be at the beginning.")


async def test_what_comes_later_goes_there_at_once_and_what_was_seen_stays_where_it_was(
    store: Store,
) -> None:
    session_id = await store.session()
    model = Server([*nudged_in(store, session_id, says("Seen.")), says("Again.")])
    await run_turn(store, session_id, model)
    # The next system message is one too many.
    model.template = refusing("message.role == 'system' and loop.index0 > 5")
    await store.nudge(session_id, NUDGE)
    model.agent = [*nudged_in(store, session_id, says("Three."))]
    await run_turn(store, session_id, model)
    assert where(model.sent[-1]) == ["system", "user", "user"]
    assert await placements(store, session_id) == ["system", "user", "user"]
    assert len(await happenings(store, session_id, RoundFailed)) == 1
    check_requests(model.sent)


async def test_the_system_prompt_stays_in_the_turn_and_names_the_new_place_from_the_next_one_on(
    store: Store,
) -> None:
    session_id = await store.session()
    model = Server([*nudged_in(store, session_id, says("Seen.")), says("Again.")], template=STRICT)
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    first, second, third = [str(messages[0]["content"]) for messages in model.sent]
    assert first == second
    assert "as system messages" in first
    assert "as messages of the user" in third
    assert "as system messages" not in third


async def test_it_goes_down_as_far_as_it_must(store: Store) -> None:
    session_id = await store.session()
    model = Server(
        nudged_in(store, session_id, says("Seen.")), template=own_template("wants_the_assistant_after_tools")
    )
    await run_turn(store, session_id, model)
    assert where(model.sent[-1]) == ["tool"]
    details = [failed.detail for failed in await happenings(store, session_id, RoundFailed)]
    assert ["placed as user" in details[0], "placed as tool" in details[1]] == [True, True]
    assert await learnt(store, model) == Profile(TOOL)


async def test_in_the_end_the_conversation_is_text_and_no_tools_are_offered(store: Store) -> None:
    session_id = await store.session()
    model = Server(nudged_in(store, session_id, says("Seen.")), template=refusing(f"tools and {FRAMED}"))
    await run_turn(store, session_id, model)
    sent = model.requests[-1]
    assert [message["role"] for message in sent.messages] == ["system", "user", "assistant", "user"]
    assert where(list(sent.messages)) == ["user"]
    assert sent.tools == ()
    assert model.requests[0].tools
    assert len(await happenings(store, session_id, RoundFailed)) == 3


async def test_where_there_is_no_other_place_the_round_fails_and_nothing_is_lost(store: Store) -> None:
    session_id = await store.session()
    model = Server(nudged_in(store, session_id), template=refusing(FRAMED))
    await run_turn(store, session_id, model)
    *steps, last = await happenings(store, session_id, RoundFailed)
    assert len(steps) == 3
    assert last.retry_time
    assert await store.outstanding(session_id) == 1
    model.template, model.agent = IN_PLACE, [says("Seen.")]
    await forget_pause(store, session_id)
    await run_turn(store, session_id, model)
    assert await store.outstanding(session_id) == 0


async def test_a_holder_that_takes_over_sends_the_same_bytes(store: Store) -> None:
    session_id = await store.session()
    model = Server(nudged_in(store, session_id, [UNREACHABLE]), template=STRICT)
    await run_turn(store, session_id, model)
    await forget_pause(store, session_id)
    model.agent = [says("Seen.")]
    await run_turn(store, session_id, model)
    assert model.sent[-1] == model.sent[-2]


# ---- what is no reason to step down


async def test_a_request_that_is_refused_without_the_interrupt_too_is_refused_for_something_else(
    store: Store,
) -> None:
    session_id = await store.session()
    model = Server(nudged_in(store, session_id), template=refusing("message.role == 'tool'"))
    await run_turn(store, session_id, model)
    (failed,) = await happenings(store, session_id, RoundFailed)
    assert failed.retry_time
    assert await placements(store, session_id) == ["system"]
    assert await learnt(store, model) == Profile(SYSTEM)


async def test_a_server_that_fails_once_for_another_reason_is_asked_as_before(store: Store) -> None:
    session_id = await store.session()
    once = ModelError(RoundFailure.MODEL_UNAVAILABLE, "the model server answered 500", status=500)
    model = Server(nudged_in(store, session_id, [once]))
    await run_turn(store, session_id, model)
    (failed,) = await happenings(store, session_id, RoundFailed)
    assert failed.reason is RoundFailure.MODEL_UNAVAILABLE
    assert [where(list(trial.messages)) for trial in model.trials] == [[], ["system"]]
    assert await learnt(store, model) == Profile(SYSTEM)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503, None])
async def test_other_failures_are_not_looked_into(store: Store, status: int | None) -> None:
    session_id = await store.session()
    failure = ModelError(RoundFailure.MODEL_REFUSED, "no", status=status)
    model = Server(nudged_in(store, session_id, [failure]))
    await run_turn(store, session_id, model)
    assert model.trials == []


async def test_a_place_that_is_configured_stays(store: Store) -> None:
    session_id = await store.session()
    model = Server(nudged_in(store, session_id), template=STRICT)
    model.served = Served("http://lamp/v1", "keeper", SYSTEM)
    await run_turn(store, session_id, model)
    assert model.trials == []
    assert await placements(store, session_id) == ["system"]


# ---- rows that were taken once


async def without_voice(store: Store) -> SessionId:
    """The voice would be the first to be refused."""
    session_id = await store.session()
    await store.sessions.update(
        session_id, lambda now: replace(now, config=replace(now.config, disable_inner_voice=True))
    )
    return session_id


async def test_interrupts_that_are_refused_after_they_were_taken_give_way_to_a_summary(store: Store) -> None:
    session_id = await without_voice(store)
    model = Server([*nudged_in(store, session_id, says("Seen.")), says("Go.")], summaries=[says("Calm.")])
    await run_turn(store, session_id, model)
    model.template = model.shown = STRICT
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    assert (compacted.cut, compacted.handled_interrupts) == (False, 1)
    assert "Calm." in said(compacted)
    assert where(model.sent[-1]) == []
    (failed,) = await happenings(store, session_id, RoundFailed)
    assert failed.detail.startswith("interrupts are refused that were taken before")
    # What the summary is made of has them where they are not refused.
    assert NUDGE in str(model.summary_requests[-1].messages)


async def test_old_and_new_interrupts_refused_together_are_dealt_with_one_after_the_other(
    store: Store,
) -> None:
    session_id = await without_voice(store)

    async def nudge_and_change() -> None:
        await store.nudge(session_id, NUDGE)
        model.template = STRICT

    again: Script = [nudge_and_change, *calls("now")]
    model = Server(
        [*nudged_in(store, session_id, again, says("Seen."))], shown=IN_PLACE, summaries=[says("Calm.")]
    )
    await run_turn(store, session_id, model)
    first, second = await happenings(store, session_id, RoundFailed)
    assert "placed as user" in first.detail
    assert "taken before" in second.detail
    assert where(model.sent[-1]) == ["user"]
    assert len(await compactions(store, session_id)) == 1
    assert await store.outstanding(session_id) == 0


async def test_the_next_turn_finds_out_anew_where_they_go(store: Store) -> None:
    session_id = await without_voice(store)
    model = Server(
        [*nudged_in(store, session_id, says("Seen.")), says("Go."), says("On.")], summaries=[says("Calm.")]
    )
    runner = agent(store, model)
    await runner.run(await store.take(session_id))
    model.template = model.shown = STRICT
    await runner.run(await store.take(session_id))
    await store.nudge(session_id, NUDGE)
    await runner.run(await store.take(session_id))
    assert where(model.sent[-1]) == ["user"]
    assert len(await happenings(store, session_id, RoundFailed)) == 1


# ---- what is not known when a turn begins


async def test_a_turn_that_begins_while_the_server_is_down_is_decided_when_it_is_back(store: Store) -> None:
    session_id = await store.session()
    await store.nudge(session_id, NUDGE)
    model = Server([says("Seen.")], down=True)
    await run_turn(store, session_id, model)
    assert await placements(store, session_id) == ["tool"]
    assert await learnt(store, model) is None
    model.down = False
    await forget_pause(store, session_id)
    await run_turn(store, session_id, model)
    assert await placements(store, session_id) == ["system"]
    assert where(model.sent[0]) == ["system"]
    assert "reach you between your steps. They" in str(model.sent[0][0]["content"])


async def test_while_the_server_is_down_what_was_found_before_is_gone_by(store: Store) -> None:
    session_id = await store.session()
    model = Server([says("Calm.")], shown=STRICT)
    await run_turn(store, session_id, model)
    await store.nudge(session_id, NUDGE)
    model.down = True
    await run_turn(store, session_id, model)
    assert await placements(store, session_id) == ["user"]


# ---- the inner voice


async def test_the_inner_voice_of_the_same_model_steps_down_for_both(store: Store) -> None:
    session_id = await store.session()
    model = Server([says("Seen.")], template=STRICT)
    await store.nudge(session_id, NUDGE)
    await run_turn(store, session_id, model)
    assert where(list(model.voice_requests[0].messages)) == ["user"]
    assert where(model.sent[0]) == ["user"]
    assert len(await happenings(store, session_id, RoundFailed)) == 1
    assert await store.outstanding(session_id) == 0


async def test_an_inner_voice_with_a_model_of_its_own_steps_down_alone(store: Store) -> None:
    session_id = await store.session()
    await store.sessions.update(
        session_id, lambda now: replace(now, config=replace(now.config, inner_voice_model="small"))
    )
    large, small = Server([says("Seen.")]), Server([], template=STRICT)
    small.served = Served("http://lamp/v1", "small")
    await store.nudge(session_id, NUDGE)
    await with_models(store, {"demo": large, "small": small}).run(await store.take(session_id))
    assert where(list(small.voice_requests[0].messages)) == ["user"]
    assert where(large.sent[0]) == ["system"]
    assert await placements(store, session_id) == ["system"]
    assert await learnt(store, small) == Profile(USER)
    assert await learnt(store, large) == Profile(SYSTEM)


async def test_a_voice_that_is_refused_what_was_taken_before_finds_out_where_it_goes_now(
    store: Store,
) -> None:
    """Its view has all interrupts in one place."""
    session_id = await store.session()
    model = Server([*nudged_in(store, session_id, says("Seen.")), says("Go.")], summaries=[says("Calm.")])
    runner = agent(store, model)
    await runner.run(await store.take(session_id))
    model.template = model.shown = own_template("forgets_reasoning")
    await runner.run(await store.take(session_id))
    first, second = await happenings(store, session_id, RoundFailed)
    assert "placed as tool" in first.detail
    assert "taken before" in second.detail
    assert await learnt(store, model) == Profile(TOOL)
