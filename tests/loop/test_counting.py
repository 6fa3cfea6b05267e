"""What is found out about a server from its refusals and its figures alone."""

import pytest

from agent_service.domain import Evidence, Finding, Placement, Profile, RoundFailure, Trouble, Usage
from agent_service.loop.counting import NOT_CACHED, NOT_LOOKED_AT, Counting
from agent_service.model import ModelError, Request
from tests.loop.test_probe import FOUND
from tests.servers.chat_template import ChatTemplate, TemplateModel, own

SYSTEM, USER, TOOL, TEXT = Placement

# Where the figures do not tell what the prompts do: nobody sees what stands around the interrupt.
TOLD_OTHERWISE = {
    "shows_system_bare": Profile(SYSTEM),
    "says_late_system_as_the_assistant": Profile(SYSTEM),
    "opens_after_user_and_tools": Profile(SYSTEM),
}


async def found_for(model: TemplateModel) -> Finding | None:
    async def count(request: Request) -> Usage:
        usage = Usage()
        async for chunk in model.stream(request):
            usage = chunk.usage or usage
        return usage

    return await Counting(count).find()


@pytest.mark.parametrize("name", FOUND)
async def test_the_figures_tell_what_the_prompts_tell(name: str) -> None:
    placement, system_role, _ = FOUND[name]
    found = await found_for(own(name))
    assert found
    assert found.profile == TOLD_OTHERWISE.get(name, Profile(placement, system_role))
    assert found.evidence is Evidence.COUNTED
    assert found.remarks == (NOT_LOOKED_AT,)


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("refuses_late_system", Trouble.REFUSED),
        ("drops_late_system", Trouble.DROPPED),
        ("last_system_wins", Trouble.DROPPED),
        ("moves_system_first", Trouble.MOVED),
    ],
)
async def test_they_tell_what_is_wrong(name: str, trouble: Trouble) -> None:
    found = await found_for(own(name))
    assert found
    assert found.trials[0].trouble is trouble


async def test_where_a_server_does_not_tell_what_it_had_at_hand_no_system_message_is_trusted() -> None:
    found = await found_for(own("takes_system", remembers=False))
    assert found
    assert found.profile == Profile(USER)
    assert (found.trials[0].trouble, found.trials[0].detail) == (Trouble.UNTRIED, NOT_CACHED)


async def test_where_a_server_does_not_count_nothing_is_found() -> None:
    assert await found_for(own("takes_system", counts=False)) is None


async def test_where_a_server_takes_nothing_nothing_is_found() -> None:
    assert await found_for(TemplateModel(ChatTemplate("{{ raise_exception('Never.') }}"))) is None


@pytest.mark.parametrize("reason", RoundFailure)
async def test_what_comes_to_nothing_is_told_unless_the_context_is_too_small(reason: RoundFailure) -> None:
    async def count(request: Request) -> Usage:
        raise ModelError(reason, "no")

    counting = Counting(count)
    if reason is RoundFailure.CONTEXT_OVERFLOW:
        assert await counting.find() is None
    else:
        with pytest.raises(ModelError):
            await counting.find()
    assert not counting.answered


async def test_a_refusal_in_another_position_counts_too() -> None:
    """The template takes a system message after a tool's response, and nowhere else."""
    picky = own("takes_system").template.source.replace(
        "{%- for message in messages %}\n",
        "{%- for message in messages %}\n"
        "{%- if message.role == 'system' and not loop.first and messages[loop.index0 - 1].role != 'tool' %}"
        "{{- raise_exception('Not here.') }}{% endif %}\n",
        1,
    )
    found = await found_for(TemplateModel(ChatTemplate(picky)))
    assert found
    assert found.profile == Profile(USER)
    assert found.trials[0].trouble is Trouble.REFUSED
    assert "Not here." in found.trials[0].detail
