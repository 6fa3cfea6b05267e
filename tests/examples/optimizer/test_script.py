"""The model with a script, as the story asks it."""

import json

import pytest
from openai import AsyncOpenAI

from examples.optimizer.entries import EXAMPLES, LOPSIDED, QUESTION
from examples.optimizer.script import ASK, START, WAIT, Message, Say, Use, chat_server, next_reply

GOAL = Message("user", "Continue.")
LOPSIDED_STARTED = Message("tool", "job-0a is queued")
FAILED = Message("system", "[service:optimizer] finetune.failed job-0a")
STARTED = Message("tool", "job-1a is queued")
WOKEN = Message("tool", "Woken by a message from outside.")
STARTED_AGAIN = [GOAL, LOPSIDED_STARTED, FAILED, STARTED]
FINISHED = Message("system", "[service:optimizer] finetune.finished job-1a")
AWAY = Message("tool", "The tool server optimizer is not running.")


@pytest.mark.parametrize(
    ("messages", "tool"),
    [
        ([GOAL], START),
        ([GOAL, LOPSIDED_STARTED], WAIT),
        ([GOAL, LOPSIDED_STARTED, FAILED], START),
        ([GOAL, LOPSIDED_STARTED, WOKEN, FAILED], START),
        (STARTED_AGAIN, WAIT),
        ([*STARTED_AGAIN, WOKEN, Message("system", "finetune.progress")], WAIT),
        ([*STARTED_AGAIN, WOKEN, FINISHED], ASK),
        ([*STARTED_AGAIN, WOKEN, FINISHED, AWAY], WAIT),
        ([*STARTED_AGAIN, WOKEN, FINISHED, AWAY, WOKEN], ASK),
    ],
)
def test_the_agent_starts_a_job_again_that_has_failed_and_sleeps_until_it_is_over(
    messages: list[Message], tool: str
) -> None:
    reply = next_reply(messages)
    assert isinstance(reply, Use)
    assert reply.tool == tool


def test_the_job_that_has_to_fail_is_another_than_the_one_after_it() -> None:
    first, second = next_reply([GOAL]), next_reply([GOAL, LOPSIDED_STARTED, FAILED])
    assert len({example["label"] for example in first.arguments["examples"]}) == 1
    assert len(second.arguments["examples"]) == len(EXAMPLES)


def test_the_agent_tells_what_the_tuned_model_says() -> None:
    said = next_reply([*STARTED_AGAIN, FINISHED, Message("tool", "weather (61%)")])
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
    assert len(json.loads(call.function.arguments)["examples"]) == len(LOPSIDED)
