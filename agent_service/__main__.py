"""Serves until SIGTERM. `migrate` brings the schema up instead; `health` exits 0 when a service serves."""

import argparse
import os
import sys
from collections.abc import Iterator

from agent_service.errors import Unavailable
from agent_service.settings import Settings, SettingsError, load

HEALTH_DEADLINE_SECONDS = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m agent_service", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("serve", "migrate", "health"), default="serve")
    command = parser.parse_args().command
    # Forks only start PostgreSQL and tool servers: without grpc's care, and without its words about it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    problems: tuple[BaseException, ...] = ()
    try:
        settings, config = load()
        # What a command does not need is not imported: a health check is made every few seconds.
        if command == "health":
            return 0 if _is_serving(settings) else 1
        from agent_service import service

        if command == "migrate":
            service.migrate_only(settings)
        else:
            service.run(settings, config)
    except* (SettingsError, Unavailable) as errors:
        problems = tuple(_leaves(errors))
    for problem in problems:
        sys.stderr.write(f"agent_service: {problem}\n")
    return 2 if problems else 0


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """What is in a group and in the groups in it: one more for each group of tasks that it came through."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _is_serving(settings: Settings) -> bool:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(settings.agent_listen, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=HEALTH_DEADLINE_SECONDS
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(main())
