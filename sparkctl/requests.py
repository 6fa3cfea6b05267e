"""What the options of a command ask for, as messages of the contract. Everything raises UsageFailed."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.struct_pb2 import Struct

from spark.agent.v1.interrupt_pb2 import Delivery, Interrupt, Notification, Nudge
from spark.agent.v1.session_pb2 import Session, SessionConfig, SessionMode
from sparkctl.failures import UsageFailed


class When(StrEnum):
    """A delivery, as it is spelt on the command line."""

    NEXT_ROUND = "next-round"
    NEXT_TURN = "next-turn"
    IMMEDIATE = "immediate"


def session(
    goal: str, name: str, model: str, on_interrupt: bool, cooldown_seconds: float, labels: Iterable[str]
) -> Session:
    mode = SessionMode.SESSION_MODE_ON_INTERRUPT if on_interrupt else SessionMode.SESSION_MODE_AUTONOMOUS
    config = SessionConfig(model=model, mode=mode)
    if cooldown_seconds:
        config.cooldown.FromTimedelta(_span("--cooldown", cooldown_seconds))
    return Session(goal=goal, display_name=name, config=config, labels=dict(map(_label, labels)))


def interrupt(
    text: str,
    source: str,
    notify: str,
    subject: str,
    data: str,
    when: When,
    coalesce_key: str,
    expires_seconds: float | None,
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
    if expires_seconds is not None:
        asked.expire_time.FromDatetime(datetime.now(UTC) + _span("--expires", expires_seconds))
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


def _span(option: str, seconds: float) -> timedelta:
    if not 0 <= seconds <= timedelta(days=3650).total_seconds():
        raise UsageFailed(f"{option} must be from 0 seconds to ten years")
    return timedelta(seconds=seconds)
