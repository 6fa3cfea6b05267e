"""What the options of a command ask for, as messages of the contract. Everything raises UsageFailed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import Parse, ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.agent_service_pb2 import UpdateSessionRequest
from spark.agent.v1.interrupt_pb2 import Delivery, Interrupt, Notification, Nudge
from spark.agent.v1.session_pb2 import Session
from sparkctl.failures import UsageFailed


class When(StrEnum):
    """A delivery, as it is spelt on the command line."""

    NEXT_ROUND = "next-round"
    NEXT_TURN = "next-turn"
    IMMEDIATE = "immediate"


class Mode(StrEnum):
    """A mode of a session, as it is spelt on the command line."""

    AUTONOMOUS = "autonomous"
    ON_INTERRUPT = "on-interrupt"


def session(
    *,
    goal: str | None = None,
    name: str | None = None,
    model: str | None = None,
    inner_voice_model: str | None = None,
    tools: Sequence[str] | None = None,
    inner_voice_prompt: str | None = None,
    inner_voice: bool | None = None,
    mode: Mode | None = None,
    cooldown_seconds: float | None = None,
    max_rounds: int | None = None,
    max_turns: int | None = None,
    token_budget: int | None = None,
    labels: Sequence[str] | None = None,
) -> UpdateSessionRequest:
    """A session as far as the options tell of it, and the mask of what they tell. Among tools and labels an
    empty one stands for none."""
    options = {
        "goal": goal,
        "display_name": name,
        "labels": None if labels is None else dict(_label(label) for label in labels if label),
        "config.model": model,
        "config.inner_voice_model": inner_voice_model,
        "config.tools": None if tools is None else [tool for tool in tools if tool],
        "config.inner_voice_prompt": inner_voice_prompt,
        "config.disable_inner_voice": None if inner_voice is None else not inner_voice,
        "config.mode": None if mode is None else f"SESSION_MODE_{mode.name}",
        "config.cooldown": None if cooldown_seconds is None else _duration("--cooldown", cooldown_seconds),
        "config.max_rounds_per_turn": max_rounds,
        "config.max_turns": max_turns,
        "config.token_budget": token_budget,
    }
    given = {path: value for path, value in options.items() if value is not None}
    own = {path: value for path, value in given.items() if "." not in path}
    config = {path.removeprefix("config."): value for path, value in given.items() if "." in path}
    try:
        asked = ParseDict({**own, "config": config}, Session())
    except ParseError:
        # All else is of the right kind.
        raise UsageFailed("--max-rounds, --max-turns or --token-budget is too large") from None
    return UpdateSessionRequest(session=asked, update_mask=FieldMask(paths=given))


def interrupt(
    text: str,
    source: str,
    notify: str,
    subject: str,
    data: str,
    when: When,
    coalesce_key: str,
    expires_seconds: float | None,
    expires_at: str,
) -> Interrupt:
    """A notification of the type `notify`, or a nudge if that is empty. Still without a session."""
    asked = Interrupt(
        source=source, delivery=Delivery.Value(f"DELIVERY_{when.name}"), coalesce_key=coalesce_key
    )
    if notify:
        asked.notification.CopyFrom(Notification(type=notify, subject=subject, text=text, data=_data(data)))
    elif subject or data:
        raise UsageFailed("--subject and --data belong to a notification: give its type with --notify")
    else:
        asked.nudge.CopyFrom(Nudge(text=text))
    if expires_seconds is not None and expires_at:
        raise UsageFailed("--expires and --expires-at say the same: give one of them")
    if expires_seconds is not None:
        asked.expire_time.FromDatetime(datetime.now(UTC) + _span("--expires", expires_seconds))
    elif expires_at:
        asked.expire_time.CopyFrom(_time("--expires-at", expires_at))
    return asked


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageFailed(f"--label must be KEY=VALUE, not {text!r}")
    return key, value


def _data(text: str) -> Struct | None:
    try:
        return Parse(text, Struct()) if text else None
    except ParseError:
        raise UsageFailed("--data must be a JSON object") from None


def _duration(option: str, seconds: float) -> str:
    """In the JSON of protobuf."""
    duration = Duration()
    duration.FromTimedelta(_span(option, seconds))
    return duration.ToJsonString()


def _time(option: str, text: str) -> Timestamp:
    time = Timestamp()
    try:
        time.FromJsonString(text)
    except ValueError:
        raise UsageFailed(f"{option} must be a time like 2026-01-31T10:00:00+01:00, not {text!r}") from None
    return time


def _span(option: str, seconds: float) -> timedelta:
    if not 0 <= seconds <= timedelta(days=3650).total_seconds():
        raise UsageFailed(f"{option} must be from 0 seconds to ten years")
    return timedelta(seconds=seconds)
