"""grpc.health.v1: serving until the shutdown begins."""
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
    """Answers for the server as a whole, named by the empty string, and for its services.

    Unlike those of grpc_health's own servicer the watches end with the server, which would otherwise wait for
    them as long as it waits for anything.
    """

    def __init__(self, services: tuple[str, ...], stopping: asyncio.Event) -> None:
        self._services, self._stopping = ("", *services), stopping

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
        yield self._health(request.service)
        await self._stopping.wait()
        yield self._health(request.service)

    def _health(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        if self._stopping.is_set():
            return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
        return HealthCheckResponse(status=HealthCheckResponse.SERVING)
