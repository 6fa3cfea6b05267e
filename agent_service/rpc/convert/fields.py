"""Checks of single fields. Each takes the field's path, as the caller wrote it, for the error."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TypeVar
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.domain import MessageId, SessionId
from agent_service.errors import InvalidField, Violation

MAX_LINE_LENGTH = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The driver takes the microsecond after it for infinity.
_LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)
_SECONDS_OF_YEARS_1_TO_9999 = range(-62_135_596_800, 253_402_300_800)
_NANOS_OF_A_SECOND = range(1_000_000_000)

# Unicode's category Cc, with and without newline and tab.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Member = TypeVar("Member", bound=Enum)


def invalid(field: str, description: str) -> InvalidField:
    return InvalidField(Violation(field, description))


def text(field: str, value: str, max_bytes: int) -> str:
    """Words for a model, in any script; `max_bytes` is that of the setting SPARK_MAX_TEXT_BYTES."""
    if len(value) > max_bytes or len(value.encode()) > max_bytes:
        raise invalid(field, f"is longer than SPARK_MAX_TEXT_BYTES allows: {max_bytes} bytes of UTF-8")
    if found := _CONTROL_IN_TEXT.search(value):
        raise invalid(field, f"has the control character U+{ord(found[0]):04X}; newline and tab are allowed")
    return value


def required_text(field: str, value: str, max_bytes: int) -> str:
    if not value.strip():
        raise invalid(field, "is required")
    return text(field, value, max_bytes)


def line(field: str, value: str, max_length: int = MAX_LINE_LENGTH) -> str:
    """A name, key or id of the caller's own: short, without control characters."""
    if len(value) > max_length:
        raise invalid(field, f"is longer than {max_length} characters")
    if found := _CONTROL.search(value):
        raise invalid(field, f"has the control character U+{ord(found[0]):04X}")
    return value


def required_line(field: str, value: str, max_length: int = MAX_LINE_LENGTH) -> str:
    if not value:
        raise invalid(field, "is required")
    return line(field, value, max_length)


def session_id(field: str, value: str) -> SessionId:
    return SessionId(_uuid(field, value))


def interrupt_id(field: str, value: str) -> MessageId:
    return MessageId(_uuid(field, value))


def _uuid(field: str, value: str) -> UUID:
    if not value:
        raise invalid(field, "is required")
    if not _UUID.fullmatch(value):
        raise invalid(field, "is not a UUID")
    return UUID(value)


def member(field: str, number: int, members: Mapping[int, Member]) -> Member:
    if number not in members:
        raise invalid(field, f"has the unknown value {number}")
    return members[number]


def not_negative(field: str, value: int) -> int:
    if value < 0:
        raise invalid(field, "must not be negative")
    return value


def time(field: str, value: Timestamp) -> datetime:
    """The time to the microsecond: what is finer is cut off. The last of 9999 becomes the one before."""
    if value.seconds not in _SECONDS_OF_YEARS_1_TO_9999 or value.nanos not in _NANOS_OF_A_SECOND:
        raise invalid(field, "is not a time of the years 1 to 9999")
    return min(_EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000), _LATEST)


def duration(field: str, value: Duration, most: timedelta) -> timedelta:
    """A duration from 0 to `most`, to the microsecond."""
    seconds_allowed = range(most.days * 86_400 + most.seconds + 1)
    if value.seconds in seconds_allowed and value.nanos in _NANOS_OF_A_SECOND:
        found = timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
        if found <= most:
            return found
    raise invalid(field, f"must be from 0 to {most.days} days")


def timestamp(time: datetime) -> Timestamp:
    since = time - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)
