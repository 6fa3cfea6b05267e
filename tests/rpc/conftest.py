"""The door over a real store, open to a real client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest

from agent_service.domain import (
    Evidence,
    Finding,
    ModelCheck,
    Placement,
    Profile,
    Trial,
    Trouble,
)
from agent_service.errors import ConfigNotFound
from agent_service.rpc.pulls import Pulls
from agent_service.rpc.server import serve
from agent_service.rpc.servicer import AgentService
from agent_service.rpc.streams import LiveStreams
from agent_service.rpc.tails import Tails
from agent_service.tools import Toolbox
from agent_service.tools.builtin import builtin_tools
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.support import LIMITS, NOWHERE, Store

if TYPE_CHECKING:
    from spark.agent.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

MODELS = ("local", "demo")
POLL_SECONDS, NOTICE_SECONDS = 0.05, 0.2
# For streams that are to hear of news by hints alone.
LONG = 3600.0
CHECKED = datetime(2030, 1, 1, tzinfo=UTC)


async def check_model(name: str) -> ModelCheck:
    """Of the one known model whose server is up; the other's is down."""
    if name not in MODELS:
        raise ConfigNotFound("model", name, MODELS)
    if name == "demo":
        return ModelCheck(name, "http://127.0.0.1:1/v1", "", None, "Nobody answers.", CHECKED)
    refused = Trial(Placement.SYSTEM, Trouble.REFUSED, "after a tool's response", "400: no")
    finding = Finding(
        Profile(Placement.USER, system_role=False),
        Evidence.RENDERED,
        (refused, Trial(Placement.USER)),
        ("Nobody looked at the reasoning.",),
    )
    return ModelCheck(name, "http://127.0.0.1:1/v1", "qwen3", finding, "", CHECKED)


@dataclass(frozen=True)
class Door:
    store: Store
    port: int
    channel: grpc.aio.Channel
    stopping: asyncio.Event

    @property
    def stub(self) -> AgentServiceAsyncStub:
        return AgentServiceStub(self.channel)


def live_streams(
    store: Store,
    poll_seconds: float,
    notice_seconds: float,
    stopping: asyncio.Event | None = None,
    own_address: str = NOWHERE,
) -> LiveStreams:
    poll_seconds = min(poll_seconds, notice_seconds)
    tails = Tails(store.streams, store.wakeups, stopping or asyncio.Event(), poll_seconds)
    own = asyncio.get_running_loop().create_future()
    own.set_result(own_address)
    return LiveStreams(store.sessions, store.streams, tails, Pulls(store.streams, own), notice_seconds)


@asynccontextmanager
async def open_door(store: Store, drain_seconds: float = 5) -> AsyncIterator[Door]:
    stopping = asyncio.Event()
    live = live_streams(store, POLL_SECONDS, NOTICE_SECONDS, stopping)
    toolbox = Toolbox(builtin_tools(), max_output_bytes=1000, timeout_seconds=60)
    servicer = AgentService(
        store.sessions,
        store.deposits,
        store.interrupts,
        store.streams,
        live,
        LIMITS,
        MODELS,
        toolbox,
        check_model,
    )
    async with (
        serve("127.0.0.1:0", servicer, stopping, insecure_listen=False, drain_seconds=drain_seconds) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield Door(store, port, channel, stopping)


@pytest.fixture
async def door(store: Store) -> AsyncIterator[Door]:
    async with open_door(store) as opened:
        yield opened
