"""A gateway that keeps what it is posted, as the real one does, and fails as it is told."""
# ruff: noqa: N802 (the name of the method is the contract's)

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest, PostInterruptResponse
from spark.gateway.v1.gateway_service_pb2_grpc import (
    GatewayServiceServicer,
    add_GatewayServiceServicer_to_server,
)


class ScriptedGateway(GatewayServiceServicer):
    def __init__(self) -> None:
        # Each attempt, and what came of them: one post for each request id.
        self.attempts: list[PostInterruptRequest] = []
        self.posted: dict[str, PostInterruptRequest] = {}
        # What the next attempts are answered with.
        self.failures: list[grpc.StatusCode] = []
        self.keeps_what_it_fails = False
        # What each attempt after that is answered with.
        self.failure: Callable[[PostInterruptRequest], grpc.StatusCode | None] = lambda request: None

    @property
    def told(self) -> list[str]:
        return [post.interrupt.notification.type for post in self.posted.values()]

    async def PostInterrupt(self, request, context):
        self.attempts.append(request)
        failure = self.failures.pop(0) if self.failures else self.failure(request)
        if not failure or self.keeps_what_it_fails:
            known = self.posted.setdefault(request.request_id, request)
            if known != request:
                await context.abort(grpc.StatusCode.ALREADY_EXISTS, "another body")
        if failure:
            await context.abort(failure, "as told")
        return PostInterruptResponse(interrupt=request.interrupt)


@asynccontextmanager
async def running(gateway: ScriptedGateway, port: int = 0) -> AsyncIterator[str]:
    """The address of the gateway while it is there."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    add_GatewayServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
