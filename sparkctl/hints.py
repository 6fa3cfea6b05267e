"""Command lines for a person to paste into another terminal."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping

from sparkctl.connections import Addresses, addresses
from sparkctl.words import visible


def sparkctl() -> str:
    """This program, as the shell that started it can call it."""
    return "sparkctl" if shutil.which("sparkctl") else shlex.quote(sys.argv[0])


def post(session: str, text: str) -> str:
    return f"{sparkctl()} post {shlex.quote(session)} {shlex.quote(text)} --wait"


def resume(session: str) -> str:
    return f"{sparkctl()} resume {shlex.quote(session)}"


def check(model: str) -> str:
    return f"{sparkctl()} models check {shlex.quote(visible(model))}"


def update(session: str, option: str) -> str:
    return f"{sparkctl()} update {shlex.quote(session)} {option}"


def grpcurl(session_id: str, text: str, gateway_address: str) -> str:
    body = {"interrupt": {"sessionId": session_id, "source": "operator", "nudge": {"text": text}}}
    method = "spark.gateway.v1.GatewayService/PostInterrupt"
    return f"grpcurl -plaintext -d {shlex.quote(json.dumps(body))} {gateway_address} {method}"


def exports(actual: Addresses, environment: Mapping[str, str]) -> list[str]:
    """What another terminal must set to find the services, if it would not find them anyway."""
    if actual == addresses(environment):
        return []
    return [f"export SPARK_AGENT_ADDRESS={actual.agent} SPARK_GATEWAY_ADDRESS={actual.gateway}"]
