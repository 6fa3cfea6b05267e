"""A model server that does what servers do: a session survives it, loses nothing and says what it was.

Every case is a session with a nudge, and all run at the same time. The server knows a case by its goal;
it does what is wrong at the first request and is well again at the second.
"""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from spark.agent.v1.agent_service_pb2 import (
    CreateSessionRequest,
    Deposit,
    DepositInterruptsRequest,
    StreamTranscriptRequest,
)
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.event_pb2 import Event, RoundFailure
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.agent.v1.message_pb2 import Message
from spark.agent.v1.session_pb2 import SESSION_MODE_ON_INTERRUPT, Session, SessionConfig
from tests.conftest import Postgres
from tests.e2e.databases import new_database
from tests.e2e.events import facts, has, kind, of_kind, rows
from tests.e2e.processes import PATIENCE_SECONDS, running, spark_toml
from tests.model.scripted_server import (
    DONE,
    Answer,
    Received,
    ScriptedServer,
    answered,
    delta,
    event,
    serving,
    streamed,
)

# Server and service live as long as the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")

UNAVAILABLE, REFUSED = "MODEL_UNAVAILABLE", "MODEL_REFUSED"
BAD_REPLY, OVERFLOW = "BAD_REPLY", "CONTEXT_OVERFLOW"
WELL = "All is well."
WELL_AGAIN = streamed(delta(content=WELL), delta("stop"), DONE)
PING = ": ping\n\n"


def call(name: str, arguments: object, **rest: object) -> dict:
    return {"function": {"name": name, "arguments": arguments}} | rest


def calling(*calls: dict, finish_reason: str = "tool_calls") -> str:
    return streamed(delta(tool_calls=list(calls)), delta(finish_reason), DONE)


@dataclass(frozen=True)
class Fault:
    """An answer that makes a round fail. Seen: the model had begun to answer before it went wrong."""

    answer: Answer
    reason: str
    detail: str
    seen: bool = False


CUT_OFF = streamed(delta(content="Hel")).replace("connection: close", "content-length: 100000")
COMPLETION = {"object": "chat.completion", "choices": [{"message": {"content": "Hello."}}]}
TOO_LONG = {"error": {"message": "request exceeds the available context size", "code": 400}}

FAULTS = {
    "refuses": Fault(answered(400, {"error": {"message": "No."}}), REFUSED, "answered 400: No."),
    "wants a key": Fault(answered(401, {}), REFUSED, "answered 401 (its table in spark.toml names no"),
    "is not there": Fault(answered(404, {}), REFUSED, "answered 404 (see base_url and model"),
    "is busy": Fault(answered(429, {}, retry_after="2"), UNAVAILABLE, "answered 429"),
    "has crashed": Fault(answered(500, "<html>"), UNAVAILABLE, "answered 500"),
    "is loading": Fault(answered(503, {"error": "Loading model"}), UNAVAILABLE, "503: Loading model"),
    "has no room": Fault(answered(400, TOO_LONG), OVERFLOW, "available context size"),
    "hangs up": Fault("", UNAVAILABLE, "could not be made, or broke"),
    "speaks no http": Fault("SSH-2.0-OpenSSH\r\n", UNAVAILABLE, "could not be made, or broke"),
    "errs at once": Fault(streamed(event(error={"message": "Oops"})), UNAVAILABLE, "broke off: Oops"),
    "errs after comments": Fault(
        streamed(PING, PING, event(error={"message": "Oops"})), UNAVAILABLE, "broke off: Oops"
    ),
    "errs after usage": Fault(
        streamed(event(choices=[], usage={"prompt_tokens": 1}), event(error="Oops")), UNAVAILABLE, "Oops"
    ),
    "errs in the middle": Fault(
        streamed(delta(content="Hel"), event(error={"message": "Oops"})), UNAVAILABLE, "Oops", seen=True
    ),
    "errs with status 200": Fault(answered(200, {"error": {"message": "Oops"}}), UNAVAILABLE, "Oops"),
    "breaks": Fault(CUT_OFF, UNAVAILABLE, "could not be made, or broke", seen=True),
    "stops without a reason": Fault(
        streamed(delta(content="Hel"), DONE), UNAVAILABLE, "broke off before the end", seen=True
    ),
    "says nothing": Fault(streamed(PING, DONE), UNAVAILABLE, "broke off before the end"),
    "cuts short": Fault(
        streamed(delta("content_filter", content="Hel")), BAD_REPLY, "content_filter", seen=True
    ),
    "never ends": Fault(
        chain([streamed()], repeat(delta(content="wind " * 1000))),
        BAD_REPLY,
        "SPARK_MAX_REPLY_BYTES",
        seen=True,
    ),
    "calls without end": Fault(
        calling(*[call("now", "{}", index=index) for index in range(129)]), BAD_REPLY, "128 tools"
    ),
    "announces calls": Fault(calling(), BAD_REPLY, "sent none", seen=True),
    "does not stream": Fault(
        answered(200, COMPLETION), BAD_REPLY, "with application/json, not with a stream"
    ),
    "shows a page": Fault(
        streamed("<html>").replace("text/event-stream", "text/html"), BAD_REPLY, "with text/html, not with"
    ),
    "talks nonsense": Fault(streamed("data: Hello\n\n"), BAD_REPLY, "no chat completion"),
}


def is_called_and_answered(played: "Played", *names: str) -> None:
    """The rows of a turn with these calls, each answered, of which the model knows at the next request."""
    calls = [row.tool_call for row in played.rows if row.HasField("tool_call")]
    responses = [row.tool_response for row in played.rows if row.HasField("tool_response")]
    assert [one.name for one in calls] == list(names)
    assert [one.call_id for one in responses] == [one.call_id for one in calls]
    assert len({one.call_id for one in calls}) == len(calls)
    said = [message["content"] for message in played.requests[1] if message["role"] == "tool"]
    assert said == [response.content for response in responses]


def is_told_its_mistake(played: "Played", *words: str) -> None:
    responses = [row.tool_response for row in played.rows if row.HasField("tool_response")]
    assert all(response.is_error for response in responses)
    assert all(word in response.content for word, response in zip(words, responses, strict=True))


def runs_two_tools(played: "Played") -> None:
    is_called_and_answered(played, "now", "note")


def runs_one_tool(played: "Played") -> None:
    is_called_and_answered(played, "note")
    assert json.loads(played.rows[1].tool_call.arguments_json) == {"text": "x"}
    assert not played.rows[2].tool_response.is_error


def learns_of_bad_arguments(played: "Played") -> None:
    is_called_and_answered(played, "now", "now")
    is_told_its_mistake(played, "not JSON", "not a JSON object")


def learns_of_its_tools(played: "Played") -> None:
    is_called_and_answered(played, "fly")
    is_told_its_mistake(played, "no tool 'fly'")


def hears_its_reasoning(played: "Played") -> None:
    [thought] = [message for message in played.requests[1] if message["role"] == "assistant"]
    assert thought["reasoning_content"] == "Hm."
    assert played.rows[1].reasoning == "Hm."


def keeps_what_can_be_kept(played: "Played") -> None:
    assert (played.rows[1].text, played.rows[1].reasoning) == ("a\ufffdb\ufffd", "\ufffd")


def says_nothing(played: "Played") -> None:
    assert [row.text for row in played.rows] == ["Continue.", ""]


def says_so_at_once(played: "Played") -> None:
    assert [row.text for row in played.rows] == ["Continue.", WELL]


NOTE = '{"text": "x"}'
ASKED_THE_TIME = {"index": 0, "id": "a", "function": {"name": "now", "arguments": '{"tz": "UTC"}'}}

# What a server may do and the session goes on with, and what must have come of it.
ODDITIES: dict[str, tuple[Answer, Callable[["Played"], None]]] = {
    "stops beside calls": (
        calling(call("note", NOTE, index=0, id="a"), finish_reason="stop"),
        runs_one_tool,
    ),
    "repeats the name": (
        streamed(
            *[delta(tool_calls=[call("note", piece, index=0, id="a")]) for piece in NOTE], delta("stop")
        ),
        runs_one_tool,
    ),
    "gives no ids": (calling(call("now", "{}", index=0), call("note", NOTE, index=1)), runs_two_tools),
    "gives equal ids": (
        calling(call("now", "{}", index=0, id="a"), call("note", NOTE, index=1, id="a")),
        runs_two_tools,
    ),
    "gives one index": (
        calling(call("now", "{}", index=0, id="a"), call("note", NOTE, index=0, id="b")),
        runs_two_tools,
    ),
    "gives no index": (calling(call("now", "{}", id="a"), call("note", NOTE, id="b")), runs_two_tools),
    "mixes pieces": (
        streamed(
            delta(tool_calls=[call("note", "", index=1, id="b")]),
            delta(tool_calls=[ASKED_THE_TIME]),
            delta(tool_calls=[{"index": 1, "function": {"arguments": NOTE[:5]}}]),
            delta(tool_calls=[{"index": 1, "function": {"arguments": NOTE[5:]}}]),
            delta("tool_calls"),
        ),
        runs_two_tools,
    ),
    "sends an object": (calling(call("note", {"text": "x"}, index=0, id="a")), runs_one_tool),
    "sends no json": (
        calling(call("now", "{tz: UTC}", index=0, id="a"), call("now", "[]", index=1, id="b")),
        learns_of_bad_arguments,
    ),
    "calls what is not there": (calling(call("fly", "{}", index=0, id="a")), learns_of_its_tools),
    "reasons": (
        streamed(delta(reasoning="Hm.", tool_calls=[ASKED_THE_TIME]), delta("tool_calls")),
        hears_its_reasoning,
    ),
    "reasons by another name": (
        streamed(delta(reasoning_content="Hm.", tool_calls=[ASKED_THE_TIME]), delta("tool_calls")),
        hears_its_reasoning,
    ),
    "sends what cannot be stored": (
        streamed(delta("stop", content="a\x00b\ud800", reasoning="\udfff")),
        keeps_what_can_be_kept,
    ),
    "answers with nothing": (streamed(delta(role="assistant"), delta("stop"), DONE), says_nothing),
    "says null": (
        streamed(
            event(choices=[{"delta": {"role": "assistant", "content": None}}], usage=None),
            event(choices=[], usage=None),
            delta(content=WELL, tool_calls=None),
            delta("stop"),
            delta("stop"),
        ),
        says_so_at_once,
    ),
    "cannot count": (
        streamed(delta("stop", content=WELL), event(choices=[], usage={"prompt_tokens": -(10**30)})),
        says_so_at_once,
    ),
}


class Faulty(ScriptedServer):
    """Does in each case once what is wrong, and is well from then on. Knows nothing of models."""

    def answer_to(self, asked: Received) -> Answer:
        if asked.path != "/v1/chat/completions":
            return answered(404, {})
        case = re.search("<case (.*?)>", asked.body["messages"][0]["content"])[1]
        if len(self.requests(case)) > 1:
            return WELL_AGAIN
        return FAULTS[case].answer if case in FAULTS else ODDITIES[case][0]

    def requests(self, case: str) -> list[list[dict]]:
        """The messages of each request of a case."""
        messages = [asked.body["messages"] for asked in self.received if asked.body]
        return [one for one in messages if f"<case {case}>" in one[0]["content"]]


@dataclass(frozen=True)
class Played:
    """What came of a case."""

    events: Sequence[Event]
    requests: list[list[dict]]

    @property
    def rows(self) -> list[Message]:
        return rows(self.events)

    @property
    def kinds(self) -> list[str]:
        return [kind(event) for event in self.events]


@asynccontextmanager
async def agent_service(postgres: Postgres, directory: Path, url: str) -> AsyncIterator[AgentServiceStub]:
    settings = {
        "SPARK_DATABASE_URL": await new_database(postgres),
        "SPARK_CONFIG": spark_toml(directory, faulty=url),
    }
    async with (
        running("agent_service", **settings) as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        yield AgentServiceStub(channel)


async def nudged(agent: AgentServiceStub, case: str) -> str:
    """The id of a session that works on nothing but a nudge."""
    config = SessionConfig(model="faulty", disable_inner_voice=True, mode=SESSION_MODE_ON_INTERRUPT)
    session = Session(goal=f"<case {case}>", config=config)
    created = await agent.CreateSession(CreateSessionRequest(session=session))
    session_id = created.session.session_id
    nudge = Interrupt(session_id=session_id, source="operator", nudge=Nudge(text="How is it?"))
    await agent.DepositInterrupts(
        DepositInterruptsRequest(deposits=[Deposit(interrupt=nudge, request_id=case)])
    )
    return session_id


async def until(agent: AgentServiceStub, session_id: str, kind: str) -> list[Event]:
    """The events of a session up to the first of a kind."""
    responses: list = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for response in agent.StreamTranscript(StreamTranscriptRequest(session_id=session_id)):
            responses.append(response)
            if has(kind)(responses):
                break
    return facts(responses)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """All cases, each up to the end of its turn."""
    server, cases = Faulty([]), [*FAULTS, *ODDITIES]
    async with (
        serving(server),
        agent_service(postgres, tmp_path_factory.mktemp("faults"), server.url) as agent,
    ):
        ids = [await nudged(agent, case) for case in cases]
        told = await asyncio.gather(*[until(agent, session_id, "turn_ended") for session_id in ids])
    return {case: Played(said, server.requests(case)) for case, said in zip(cases, told, strict=True)}


@pytest.mark.parametrize("case", FAULTS)
async def test_a_session_survives_a_server_that(case: str, played: dict[str, Played]) -> None:
    fault, it = FAULTS[case], played[case]
    [failed] = of_kind(it.events, "round_failed")
    assert RoundFailure.Name(failed.reason) == f"ROUND_FAILURE_{fault.reason}"
    assert fault.detail in failed.detail
    assert [row.text for row in it.rows] == ["Continue.", WELL]
    assert [(one.round, one.attempt) for one in of_kind(it.events, "round_started")][-2:] == [(1, 1), (1, 2)]


@pytest.mark.parametrize("case", FAULTS)
async def test_the_nudge_is_seen_by_the_first_model_that_begins_to_answer_when_a_server(
    case: str, played: dict[str, Played]
) -> None:
    it = played[case]
    assert [it.kinds.count(f"interrupt_{fact}") for fact in ("posted", "delivered", "seen")] == [1, 1, 1]
    assert (it.kinds.index("interrupt_seen") < it.kinds.index("round_failed")) == FAULTS[case].seen
    first, again = it.requests
    assert first == again
    assert "How is it?" in first[-2]["content"] + first[-1]["content"]


async def test_a_server_that_asks_for_time_gets_it(played: dict[str, Played]) -> None:
    [failing] = [event for event in played["is busy"].events if kind(event) == "round_failed"]
    pause = failing.round_failed.retry_time.ToDatetime() - failing.create_time.ToDatetime()
    assert 1.9 < pause.total_seconds() < 2.5


@pytest.mark.parametrize("case", ODDITIES)
async def test_a_session_goes_on_with_a_server_that(case: str, played: dict[str, Played]) -> None:
    it = played[case]
    assert "round_failed" not in it.kinds
    assert it.kinds.count("interrupt_seen") == 1
    ODDITIES[case][1](it)


async def test_a_session_waits_for_a_server_that_is_not_there_yet(postgres: Postgres, tmp_path: Path) -> None:
    server, case = Faulty([]), "says null"
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        async with agent_service(postgres, tmp_path, url) as agent:
            session_id = await nudged(agent, case)
            [failed] = of_kind(await until(agent, session_id, "round_failed"), "round_failed")
            assert RoundFailure.Name(failed.reason) == f"ROUND_FAILURE_{UNAVAILABLE}"
            assert failed.detail == "the connection to the model server could not be made, or broke"
            async with serving(server, bound):
                told = await until(agent, session_id, "turn_ended")
    assert rows(told)[-1].text == WELL
    assert [kind(event) for event in told].count("interrupt_seen") == 1
