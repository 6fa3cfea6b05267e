"""A model that plays the agent of the story: a chat completions server with a script instead of weights."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TypeAlias, assert_never

from pydantic import TypeAdapter

from examples.optimizer.classifier import Example
from examples.optimizer.entries import EXAMPLES, LOPSIDED, QUESTION

START, ASK, WAIT = "optimizer_start_finetune", "optimizer_ask_tuned", "wait"

_JOB = re.compile(r"job-\w+")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class Use:
    tool: str
    arguments: dict[str, object]


Reply: TypeAlias = Say | Use
Play: TypeAlias = Callable[[Sequence[Message]], Awaitable[Reply]]


def next_reply(messages: Sequence[Message]) -> Reply:
    """Start a job that has to fail, then a better one, sleep until it is over, ask what came of it. Read off
    the conversation alone, as a model would do it."""
    said = [message.content or "" for message in messages]
    answers = [message.content or "" for message in messages if message.role == "tool"]
    jobs = [found[0] for answer in answers if (found := _JOB.match(answer))]
    label = re.match(r"(\w+) \(\d+%\)", answers[-1]) if answers else None
    failed, finished = (any(f"finetune.{end}" in words for words in said) for end in ("failed", "finished"))
    if not jobs:
        return _start(LOPSIDED)
    if failed and len(jobs) == 1:
        return _start(EXAMPLES)
    if label:
        return Say(f"“{QUESTION.text}” is about: {label[1]}.")
    if not finished:
        return Use(WAIT, {"seconds": 600, "reason": f"the end of {jobs[-1]}"})
    if answers[-1].startswith("The tool server"):
        return Use(WAIT, {"seconds": 1, "reason": "the optimizer is away"})
    return Use(ASK, {"job_id": jobs[-1], "text": QUESTION.text})


def _start(examples: Sequence[Example]) -> Use:
    return Use(START, {"examples": [asdict(example) for example in examples]})


@asynccontextmanager
async def chat_server(play: Play) -> AsyncIterator[str]:
    """The base URL of a server that answers as the play says."""
    asked = TypeAdapter(Asked)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        if length:
            body = await reader.readexactly(int(length[1]))
            writer.write(_HEAD + _events(await play(asked.validate_json(body).messages)))
        else:
            writer.write(_NOT_FOUND)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def _events(reply: Reply) -> bytes:
    match reply:
        case Say(text):
            choice: dict[str, object] = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
        case Use(tool, arguments):
            function = {"name": tool, "arguments": json.dumps(arguments)}
            calls = [{"index": 0, "id": "call", "type": "function", "function": function}]
            choice = {"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}
        case unreachable:
            assert_never(unreachable)
    return f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
