"""grpc.health.v1: whether the gateway is of use, which depends on the agent service."""
# ruff: noqa: N802 (the names of the methods are the protocol's)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)


class Health:
    """Answers for the server as a whole, named by the empty string, and for its services: not serving until
    told otherwise.

    Unlike those of grpc_health's own servicer the watches end when the gateway stops, which would otherwise
    wait for them as long as it waits for anything.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = ("", *services)
        self._serving = self._stopped = False
        self._changed = asyncio.Event()

    def tell(self, serving: bool) -> None:
        """Let everybody know."""
        self._serving = serving
        # Those who watch have this event; whoever comes next waits for another.
        self._changed.set()
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """Not serving, for good."""
        self._stopped = True
        self.tell(False)

    async def Check(
        self,
        request: HealthCheckRequest,
        context: grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse],
    ) -> HealthCheckResponse:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return self._health(request.service)

    async def List(self, request: HealthListRequest, context: object) -> HealthListResponse:
        return HealthListResponse(statuses={name: self._health(name) for name in self._services})

    async def Watch(self, request: HealthCheckRequest, context: object) -> AsyncIterator[HealthCheckResponse]:
        told = None
        while True:
            # Taken before the look, so that no change falls in between.
            changed, stopped, health = self._changed, self._stopped, self._health(request.service)
            if health != told:
                told = health
                yield health
            if stopped:
                return
            await changed.wait()

    def _health(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        if self._serving:
            return HealthCheckResponse(status=HealthCheckResponse.SERVING)
        return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
