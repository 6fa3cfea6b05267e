"""`python -m gateway` serves until SIGTERM; `python -m gateway health` exits 0 when one is serving."""

import argparse
import asyncio
import logging
import signal
import sys
from contextlib import suppress

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.agent_client import connect
from gateway.server import serving
from gateway.settings import Settings, SettingsError, load, unused_variables

HEALTH_DEADLINE_SECONDS = 2

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("serve", "health"), default="serve")
    command = parser.parse_args().command
    problem = ""
    try:
        settings = load()
        if command == "health":
            return 0 if is_serving(settings.gateway_listen) else 1
        _configure_logs(settings.log_level)
        asyncio.run(serve(settings))
    except* SettingsError as errors:
        problem = "; ".join(str(error) for error in errors.exceptions)
    if problem:
        sys.stderr.write(f"gateway: {problem}\n")
    return 2 if problem else 0


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    async with connect(settings.agent_address) as agent, serving(settings, agent) as port:
        sys.stdout.write(f"listening {settings.listen_host}:{port}\n")
        sys.stdout.flush()
        log.info("listening", port=port, agent=settings.agent_address, unused_variables=unused_variables())
        await stop.wait()
        log.info("stopping", drain_seconds=settings.drain_seconds)
    log.info("stopped")


def is_serving(address: str) -> bool:
    """Ask the gateway at the address. What keeps it from serving is said on stderr."""
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=HEALTH_DEADLINE_SECONDS
            )
        except grpc.RpcError as error:
            sys.stderr.write(f"gateway at {address}: {error.code().name}\n")
            return False
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    sys.stderr.write(f"gateway at {address}: {status}\n")
    return status == "SERVING"


class _Logger(structlog.WriteLogger):
    """A line that cannot be written is lost: of a full disk or a reader that has gone nothing fails."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = critical = exception = msg


def _configure_logs(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Logger(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
