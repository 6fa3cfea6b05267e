"""The database at the end of a run, as it is and as an agent service tells it."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import Message

from spark.agent.v1.agent_service_pb2 import (
    ListInterruptsRequest,
    ListMessagesRequest,
    StreamTranscriptRequest,
)
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.e2e.databases import connected
from tests.support import until
from tests.torture.history import as_json

_PATIENCE_SECONDS = 60
_TABLES = ("sessions", "messages", "events", "replicas")
_OUTSTANDING = "SELECT coalesce(sum(outstanding), 0) FROM sessions WHERE state = 'active'"
_AT_REST = """
SELECT count(*) = 0 FROM sessions
WHERE state = 'active' AND (lease_owner IS NOT NULL OR outstanding > 0 OR turn_open AND due_at <= now())
    OR lease_owner IN (SELECT replica_id FROM replicas WHERE lease_until > now())"""
_SESSIONS = "SELECT session_id::text FROM sessions"


async def until_quiet(url: str, patience_seconds: float) -> float:
    """Wait until nothing is outstanding in any session that works, or in vain. How long that was."""
    began = time.monotonic()
    async with connected(url) as connection:

        async def quiet() -> bool:
            return await connection.fetchval(_OUTSTANDING) == 0

        with suppress(AssertionError):
            await until(quiet, patience_seconds)
    return time.monotonic() - began


async def until_at_rest(url: str) -> None:
    """Wait until nobody has a session or is about to, and nothing is outstanding."""
    async with connected(url) as connection:

        async def at_rest() -> bool:
            return bool(await connection.fetchval(_AT_REST))

        await until(at_rest)


async def dump(directory: Path, url: str, agent: AgentServiceStub) -> None:
    """The rows as of one moment; the service may tell of later ones."""
    with (directory / "database.jsonl").open("w") as file:
        async with connected(url) as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                for table in _TABLES:
                    for (row,) in await connection.fetch(f"SELECT row_to_json(t) FROM {table} AS t"):
                        file.write(f'{{"table": "{table}", "row": {row}}}\n')
            session_ids = [session_id for (session_id,) in await connection.fetch(_SESSIONS)]
        for session_id in session_ids:
            async for name, answers in _lists(agent, session_id):
                told = [as_json(answer) for answer in answers]
                line = {"list": name, "session_id": session_id, "answers": told}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


async def _lists(agent: AgentServiceStub, session_id: str) -> AsyncIterator[tuple[str, list[Message]]]:
    yield "ListMessages", await _pages(agent.ListMessages, ListMessagesRequest(session_id=session_id))
    yield "ListInterrupts", await _pages(agent.ListInterrupts, ListInterruptsRequest(session_id=session_id))
    yield "StreamTranscript", await _synced(agent, StreamTranscriptRequest(session_id=session_id))


async def _pages(method: Callable[..., Awaitable[Message]], request: Message) -> list[Message]:
    pages: list[Message] = []
    while not pages or request.page_token:
        pages.append(await method(request, timeout=_PATIENCE_SECONDS, wait_for_ready=True))
        request.page_token = pages[-1].next_page_token
    return pages


async def _synced(agent: AgentServiceStub, request: StreamTranscriptRequest) -> list[Message]:
    """All that there is now."""
    responses: list[Message] = []
    call = agent.StreamTranscript(request, timeout=_PATIENCE_SECONDS, wait_for_ready=True)
    async for response in call:
        responses.append(response)
        if response.synced:
            call.cancel()
            break
    return responses
