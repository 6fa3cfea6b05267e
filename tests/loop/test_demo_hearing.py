"""The demo hears interrupts wherever they are placed: told through the loop's own views of a conversation."""

import pytest

from agent_service.domain import Nudge, Placement, Profile
from agent_service.loop.conversation import agent_messages, voice_messages
from agent_service.loop.placement import placed
from agent_service.loop.prompt import SUMMARY_REQUEST, inner_voice_prompt
from agent_service.model import Reply, Request
from agent_service.model.demo import DemoModel
from tests.loop.story import TAG, Story, interrupt
from tests.model.support import NOTE, NOW, reply_of

NUDGE = Nudge("Watch the fishing boat to the north.")
TURNS = 4


class Night(Story):
    """A story whose words are the demo's, with interrupts in one place."""

    profile: Profile
    tools = (NOW, NOTE)

    async def nudge_at(self, turn: int, after_rounds: int) -> list[Reply]:
        """What is said in all turns if a nudge comes in one of them."""
        said = []
        for n in range(1, TURNS + 1):
            self.begin_turn(*self._news(n == turn and after_rounds == 0))
            voice = await reply_of(DemoModel(0), self._voice_request())
            self.user(voice.text)
            said.append(voice)
            said += await self._rounds(after_rounds if n == turn else -1)
        return said

    async def _rounds(self, nudge_after: int) -> list[Reply]:
        said: list[Reply] = []
        while not said or said[-1].tool_calls:
            self.begin_round(*self._news(len(said) == nudge_after))
            reply = await reply_of(DemoModel(0), self._agent_request())
            self.reply(reply.text, *reply.tool_calls)
            for call in reply.tool_calls:
                self.respond(call.call_id, "2031-05-04T03:21:09Z", call.name)
            said.append(reply)
        return said

    def _news(self, comes: bool) -> list:
        return [placed_nudge(self.profile.placement)] if comes else []

    def _agent_request(self, closing: str = "") -> Request:
        messages = agent_messages(self.profile, "You are an agent.", TAG, self.rows, closing=closing)
        return Request(messages, self.tools)

    def _voice_request(self) -> Request:
        prompt = inner_voice_prompt("Keep the lamp.", TAG, "")
        return Request(voice_messages(self.profile, prompt, "I am ready.", TAG, self.rows))

    async def summary(self) -> str:
        return (await reply_of(DemoModel(0), self._agent_request(SUMMARY_REQUEST))).text


def placed_nudge(placement: Placement):
    row = Story()
    row.deliver(interrupt(NUDGE))
    return placed(row.rows[0], placement).content


def night(placement: Placement) -> Night:
    story = Night()
    story.profile = Profile(placement)
    return story


def texts(said: list[Reply]) -> list[str]:
    return [reply.text for reply in said]


@pytest.mark.parametrize("placement", [Placement.USER, Placement.TOOL])
@pytest.mark.parametrize("when", [(1, 0), (2, 0), (2, 2), (2, 3)])
async def test_its_night_is_the_same_wherever_a_nudge_is_placed(
    placement: Placement, when: tuple[int, int]
) -> None:
    in_place, elsewhere = night(Placement.SYSTEM), night(placement)
    expected = texts(await in_place.nudge_at(*when))
    assert any("“Watch the fishing boat to the north”" in text for text in expected)
    assert texts(await elsewhere.nudge_at(*when)) == expected
    assert await elsewhere.summary() == await in_place.summary()


@pytest.mark.parametrize("when", [(1, 0), (2, 0)])
async def test_it_hears_a_nudge_in_a_conversation_of_text(when: tuple[int, int]) -> None:
    story = night(Placement.TEXT)
    story.tools = ()
    said = texts(await story.nudge_at(*when))
    assert sum("The operator says: “Watch the fishing boat to the north”" in text for text in said) >= 1
