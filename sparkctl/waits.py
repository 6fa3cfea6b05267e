"""The tool `wait`, by which an agent sleeps in the middle of a turn until a time or an interrupt."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.message_pb2 import ToolCall
from sparkctl.words import age, brief, clock, moment

_NAME = "wait"
_MAX_SECONDS = timedelta(days=7).total_seconds()


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float
    reason: str

    def told(self, since: Timestamp, now: datetime, zone: tzinfo | None) -> str:
        """For how long it has waited, until when, and why."""
        end = moment(since) + timedelta(seconds=self.seconds)
        reason = f": {brief(self.reason)}" if self.reason else ""
        return f"for {age(since, now)}, until an interrupt or {clock(end, zone)}{reason}"


def wait_of(call: ToolCall) -> Wait | None:
    """What a call asks for that makes the agent wait; None for every other call."""
    if call.name != _NAME:
        return None
    try:
        arguments = json.loads(call.arguments_json)
    except (ValueError, RecursionError):
        return None
    match arguments:
        case {"seconds": bool()}:
            return None
        case {"seconds": int() | float() as seconds, **others} if 0 < seconds <= _MAX_SECONDS:
            reason = others.get("reason", "")
            return Wait(seconds, reason) if isinstance(reason, str) else None
        case _:
            return None
