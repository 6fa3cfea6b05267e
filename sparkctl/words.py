"""How facts are put into words: text from outside, times, interrupts."""

import re
from datetime import datetime, timedelta, tzinfo

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.interrupt_pb2 import Interrupt, InterruptState

MAX_LINES = 8
MAX_CHARACTERS = 1000
_BRIEF_CHARACTERS = 60

# Everything that could move a cursor or change a terminal's state.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def word(enum: EnumDescriptor, number: int) -> str:
    """The name of an enum's value without the name of the enum, for example `next round`."""
    value, unset = enum.values_by_number.get(number), enum.values_by_number[0]
    if not value:
        return str(number)
    return value.name.removeprefix(unset.name.removesuffix("UNSPECIFIED")).replace("_", " ").lower()


def visible(text: str) -> str:
    """The text without the power to write anywhere else in the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def cut(text: str) -> str:
    """The beginning of a text, saying how much is missing."""
    whole = visible(text).strip("\n")
    shown = "\n".join(whole.split("\n")[:MAX_LINES])[:MAX_CHARACTERS]
    missing = len(whole) - len(shown)
    return f"{shown}\n… {missing} more characters" if missing > 0 else shown


def brief(text: str) -> str:
    """A text in a part of a line."""
    line = " ".join(visible(text).split())
    return line if len(line) <= _BRIEF_CHARACTERS else line[: _BRIEF_CHARACTERS - 1] + "…"


def clock(time: Timestamp | datetime, zone: tzinfo | None) -> str:
    """The time of day in a zone, None for the local one."""
    when = time if isinstance(time, datetime) else moment(time)
    return f"{when.astimezone(zone):%H:%M:%S}"


def age(since: Timestamp, now: datetime) -> str:
    return _span(now - moment(since))


def ahead(time: Timestamp, now: datetime) -> str:
    return _span(moment(time) - now)


def _span(time: timedelta) -> str:
    seconds = max(0, int(time / timedelta(seconds=1)))
    for unit, length_seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_seconds:
            return f"{seconds // length_seconds} {unit}"
    return f"{seconds} s"


def state(interrupt: Interrupt) -> str:
    return word(InterruptState.DESCRIPTOR, interrupt.state)


def facts(interrupt: Interrupt, zone: tzinfo | None = None) -> list[str]:
    """What is known of the way of an interrupt, in order."""
    known = [f"pending since {clock(interrupt.create_time, zone)}"]
    if interrupt.HasField("deliver_time"):
        known.append(f"delivered at {clock(interrupt.deliver_time, zone)}")
    if interrupt.HasField("seen_time"):
        known.append(f"seen by the model at {clock(interrupt.seen_time, zone)}")
    if interrupt.HasField("settle_time"):
        reason = f": {visible(interrupt.settle_reason)}" if interrupt.settle_reason else ""
        known.append(f"{state(interrupt)} at {clock(interrupt.settle_time, zone)}{reason}")
    return known


def speech(interrupt: Interrupt) -> str:
    """Who says what, whole."""
    if interrupt.HasField("nudge"):
        return f"{interrupt.source} nudges: {interrupt.nudge.text}"
    fact = interrupt.notification
    head = f"{interrupt.source} notifies: {fact.type} {fact.subject}".rstrip()
    data = MessageToJson(fact.data, indent=None, ensure_ascii=False) if fact.HasField("data") else ""
    return "\n".join(part for part in (head, fact.text, data) if part)


def moment(time: Timestamp) -> datetime:
    return datetime.fromtimestamp(time.seconds + time.nanos / 1e9).astimezone()
