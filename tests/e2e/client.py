"""Clients that know the contract from reflection alone: grpcurl, and buf, which is always there."""

import asyncio
import base64
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from google.protobuf import json_format
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2  # noqa: F401

# Their types are those of the answers, which are read as JSON.
from spark.agent.v1 import agent_service_pb2  # noqa: F401
from spark.gateway.v1 import gateway_service_pb2  # noqa: F401
from tests.e2e.processes import PATIENCE_SECONDS

ROOT = Path(__file__).parent.parent.parent
AGENT = "spark.agent.v1.AgentService"
GATEWAY = "spark.gateway.v1.GatewayService"
HEALTH = "grpc.health.v1.Health"


class Refused(Exception):
    """The status of a call that did not end well, as the client program has told it."""

    def __init__(self, status: Status) -> None:
        super().__init__(f"{Code.Name(status.code)}: {status.message}")
        self.code, self.message = Code.Name(status.code), status.message
        self.status = status

    @property
    def reason(self) -> str:
        return self._detail(ErrorInfo()).reason

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._detail(ErrorInfo()).metadata)

    @property
    def fields(self) -> list[str]:
        """The fields that are wrong, where it is in fields."""
        return [found.field for found in self._detail(BadRequest()).field_violations if found.field]

    def _detail(self, kind: Any) -> Any:
        """The detail of this kind, or an empty one."""
        return next((kind for packed in self.status.details if packed.Unpack(kind)), kind)


class Program(Protocol):
    def command(self, address: str, method: str) -> list[str]:
        """Calls a method with the JSON from stdin, and prints each response as indented JSON."""
        ...

    def status(self, said: str) -> Status:
        """The error in what it said on stderr."""
        ...


@dataclass(frozen=True)
class Grpcurl:
    path: str

    def command(self, address: str, method: str) -> list[str]:
        return [self.path, "-plaintext", "-format-error", "-d", "@", address, method]

    def status(self, said: str) -> Status:
        return json_format.Parse(said, Status())


@dataclass(frozen=True)
class BufCurl:
    path: str

    def command(self, address: str, method: str) -> list[str]:
        options = ["--protocol", "grpc", "--http2-prior-knowledge", "--data", "@-"]
        return [self.path, "curl", *options, f"http://{address}/{method}"]

    def status(self, said: str) -> Status:
        told = json.loads(said)
        status = Status(code=Code.Value(told["code"].upper()), message=told.get("message", ""))
        for detail in told.get("details", ()):
            padded = f"{detail['value']}=="
            status.details.add(
                type_url=f"type.googleapis.com/{detail['type']}", value=base64.b64decode(padded)
            )
        return status


def programs() -> list[Program]:
    """Those to be had here, the best first."""
    places = [ROOT / ".tools" / "bin" / "grpcurl", Path.home() / "go" / "bin" / "grpcurl"]
    grpcurl = shutil.which("grpcurl") or next((str(path) for path in places if path.exists()), None)
    buf = BufCurl(str(Path(sys.executable).with_name("buf")))
    return [Grpcurl(grpcurl), buf] if grpcurl else [buf]


@dataclass
class Stream:
    """A call that goes on: what it has brought so far, read in the background."""

    responses: list[Any] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: bool = False
    _refused: Refused | None = None

    async def until(self, condition: Callable[[list[Any]], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition(self.responses):
                assert not self._ended, f"the stream ended too early: {self._refused or 'OK'}"
                await self._more()

    async def end(self) -> Refused | None:
        """Wait for the end of the stream; None is a good one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._ended:
                await self._more()
        return self._refused

    def brought(self, response: Message) -> None:
        self.responses.append(response)
        self._news.set()

    def ended(self, refused: Refused | None) -> None:
        self._ended, self._refused = True, refused
        self._news.set()

    async def _more(self) -> None:
        self._news.clear()
        await self._news.wait()


@dataclass(frozen=True)
class Door:
    """A service at an address, called by its methods' names and their requests' fields."""

    program: Program
    address: str
    service: str

    async def call(self, method: str, **request: object) -> Any:
        """The response. Raises Refused."""
        async with self.stream(method, **request) as stream:
            if refused := await stream.end():
                raise refused
        [response] = stream.responses
        return response

    async def refusal(self, method: str, **request: object) -> Refused:
        """How a call is refused."""
        async with self.stream(method, **request) as stream:
            refused = await stream.end()
        assert refused, f"{method} was not refused"
        return refused

    @asynccontextmanager
    async def stream(self, method: str, **request: object) -> AsyncIterator[Stream]:
        """A call in the background. Leaving gives it up."""
        process = await asyncio.create_subprocess_exec(
            *self.program.command(self.address, f"{self.service}/{method}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stream = Stream()
        reading = asyncio.create_task(self._read(process, method, json.dumps(request), stream))
        try:
            yield stream
        finally:
            if process.returncode is None:
                process.kill()
            await reading

    async def _read(
        self, process: asyncio.subprocess.Process, method: str, request: str, stream: Stream
    ) -> None:
        process.stdin.write(request.encode())
        process.stdin.close()
        errors = asyncio.create_task(process.stderr.read())
        kind = Default().FindServiceByName(self.service).methods_by_name[method].output_type
        text = ""
        async for line in process.stdout:
            text += line.decode()
            # Both programs indent what is inside.
            if line.rstrip() in (b"}", b"{}"):
                stream.brought(json_format.Parse(text, GetMessageClass(kind)()))
                text = ""
        said = (await errors).decode()
        stream.ended(Refused(self._status(said)) if await process.wait() > 0 else None)

    def _status(self, said: str) -> Status:
        try:
            return self.program.status(said)
        except ValueError:  # not the service's answer but the program's own trouble
            return Status(code=Code.UNKNOWN, message=said)


@dataclass(frozen=True)
class Client:
    program: Program

    def agent(self, address: str) -> Door:
        return Door(self.program, address, AGENT)

    def gateway(self, address: str) -> Door:
        return Door(self.program, address, GATEWAY)

    def health(self, address: str) -> Door:
        return Door(self.program, address, HEALTH)
