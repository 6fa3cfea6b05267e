"""A loop as small as can be, for the demo."""

import json
from dataclasses import dataclass, field

from agent_service.domain import JsonObject
from agent_service.model import INNER_VOICE_MARK, SUMMARY_MARK, Reply, Request, ToolSpec
from agent_service.model.demo import DemoModel
from tests.model.support import NOTE, NOW, reply_of

MAX_ROUNDS = 20


@dataclass
class Play:
    """A conversation with the demo as both the inner voice and the agent."""

    tools: tuple[ToolSpec, ...] = (NOW, NOTE)
    rows: list[dict] = field(default_factory=list)

    def interrupt(self, *rows: str) -> None:
        lines = ["<interrupt-k7qz>", *rows, "</interrupt-k7qz>"]
        self.rows.append({"role": "system", "content": "\n".join(lines)})

    @property
    def messages(self) -> list[JsonObject]:
        """As the agent has them."""
        return _joined([{"role": "system", "content": "You are an agent."}, *self.rows])

    def inner_voice_request(self) -> Request:
        """The conversation with user and assistant swapped and tool calls as text."""
        swapped: list[dict] = [
            {"role": "system", "content": f"{INNER_VOICE_MARK} of an agent."},
            {"role": "user", "content": "Begin."},
        ]
        roles = {"user": "assistant", "assistant": "user", "tool": "user", "system": "system"}
        for row in self.rows:
            role = "user" if row.get("is_summary") else roles[row["role"]]
            swapped.append({"role": role, "content": f"{row['content']} {row.get('tool_calls', '')}"})
        return Request(_joined(swapped))

    async def compact(self, keep_reply: bool = True) -> str:
        """Let a summary, with words before and after it, take the place of what was before the last reply, or
        of that too if it ended its turn."""
        [*_, last] = [n for n, row in enumerate(self.rows) if row["role"] == "assistant"]
        last += not keep_reply
        asked = {"role": "user", "content": f"{SUMMARY_MARK}, in a few sentences."}
        covered = _joined([self.messages[0], *self.rows[:last], asked])
        summary = await reply_of(DemoModel(0), Request(covered, self.tools))
        assert not summary.tool_calls
        content = f"[This is what it came to.]\n\n{summary.text}\n\nDealt with:\n- [operator] at 03:21"
        self.rows[:last] = [{"role": "user", "content": content, "is_summary": True}]
        return summary.text

    async def speak_up(self) -> str:
        """Let the inner voice open a turn."""
        line = (await reply_of(DemoModel(0), self.inner_voice_request())).text
        self.rows.append({"role": "user", "content": line})
        return line

    async def round(self) -> Reply:
        reply = await reply_of(DemoModel(0), Request(self.messages, self.tools))
        calls = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in reply.tool_calls
        ]
        self.rows.append(
            {"role": "assistant", "content": reply.text} | ({"tool_calls": calls} if calls else {})
        )
        for call in reply.tool_calls:
            content = "2031-05-04T03:21:09Z" if call.name == "now" else "Noted."
            self.rows.append({"role": "tool", "tool_call_id": call.call_id, "content": content})
        return reply

    async def finish_turn(self) -> list[Reply]:
        replies = [await self.round()]
        while replies[-1].tool_calls:
            assert len(replies) < MAX_ROUNDS, "the turn does not end"
            replies.append(await self.round())
        return replies

    async def turn(self) -> list[Reply]:
        await self.speak_up()
        return await self.finish_turn()


def notes(*replies: Reply) -> list[str]:
    calls = [call for reply in replies for call in reply.tool_calls if call.name == "note"]
    return [json.loads(call.arguments_json)["text"] for call in calls]


def _joined(rows: list[dict]) -> list[JsonObject]:
    """Neighbours of one role are one message, but for the system prompt and the agent's words."""
    messages = rows[:1]
    for row in rows[1:]:
        if len(messages) > 1 and messages[-1]["role"] == row["role"] and row["role"] in ("user", "system"):
            content = f"{messages[-1]['content']}\n\n{row['content']}"
            messages[-1] = {"role": row["role"], "content": content}
        else:
            messages.append(row)
    return messages
