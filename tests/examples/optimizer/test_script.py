"""The model with a script, as the story asks it."""

import json

import pytest
from openai import AsyncOpenAI

from examples.optimizer.entries import EXAMPLES, QUESTION
from examples.optimizer.script import ASK, START, WAIT, Message, Say, Use, chat_server, next_reply

GOAL = Message("user", "Continue.")
STARTED = Message("tool", "job-1a is queued")
WOKEN = Message("tool", "Woken by a message from outside.")
FINISHED = Message("system", "[service:optimizer] finetune.finished job-1a")
AWAY = Message("tool", "The tool server optimizer is not running.")


@pytest.mark.parametrize(
    ("messages", "tool"),
    [
        ([GOAL], START),
        ([GOAL, STARTED], WAIT),
        ([GOAL, STARTED, WOKEN, Message("system", "finetune.progress")], WAIT),
        ([GOAL, STARTED, WOKEN, FINISHED], ASK),
        ([GOAL, STARTED, WOKEN, FINISHED, AWAY], WAIT),
        ([GOAL, STARTED, WOKEN, FINISHED, AWAY, WOKEN], ASK),
    ],
)
def test_the_agent_starts_the_job_and_sleeps_until_it_is_over(messages: list[Message], tool: str) -> None:
    reply = next_reply(messages)
    assert isinstance(reply, Use)
    assert reply.tool == tool


def test_the_agent_tells_what_the_tuned_model_says() -> None:
    said = next_reply([GOAL, STARTED, FINISHED, Message("tool", "weather (61%)")])
    assert said == Say(f"“{QUESTION.text}” is about: weather.")


async def test_it_speaks_as_a_chat_completions_server() -> None:
    async def play(messages):
        return next_reply(messages)

    async with chat_server(play) as url, AsyncOpenAI(base_url=url, api_key="none") as client:
        stream = await client.chat.completions.create(
            model="script", messages=[{"role": "user", "content": "Continue."}], stream=True
        )
        [chunk] = [chunk async for chunk in stream]
    [call] = chunk.choices[0].delta.tool_calls
    assert call.function.name == START
    assert len(json.loads(call.function.arguments)["examples"]) == len(EXAMPLES)
