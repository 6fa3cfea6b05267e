"""Posts that are refused, and posts that are taken."""

from collections.abc import Mapping
from functools import partial
from math import inf, nan
from uuid import uuid4

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.agent_service_pb2 import Deposit, DepositInterruptsRequest
from spark.agent.v1.interrupt_pb2 import (
    DELIVERY_IMMEDIATE,
    DELIVERY_NEXT_ROUND,
    DELIVERY_NEXT_TURN,
    Interrupt,
    Notification,
    Nudge,
)
from spark.gateway.v1.gateway_service_pb2 import BatchPostInterruptsRequest, PostInterruptRequest
from tests.e2e.bad_input import (
    CROWDED,
    ENDED,
    FULL,
    INVALID,
    NO_SESSION,
    NOT_ALLOWED,
    OVER,
    PAUSED,
    REUSED,
    TOO_MANY,
    UNKNOWN_ID,
    each,
    refused,
)
from tests.e2e.bad_input_words import BAD_IDS, BAD_LINES, BAD_TEXTS, GOOD_LINES, GOOD_TEXTS, KIB

END_OF_9999 = 253_402_300_799


def nudge(text: str = "Look north.", request_id: str | None = None, **fields: object) -> Deposit:
    """A good one but for what is said, with a request id of its own."""
    return deposit(request_id, nudge=Nudge(text=text), **fields)


def notification(kind: str = "sea.calm", request_id: str | None = None, **fields: object) -> Deposit:
    about = {name: fields.pop(name) for name in ("subject", "text", "data") if name in fields}
    return deposit(request_id, notification=Notification(type=kind, **about), **fields)


def deposit(request_id: str | None = None, **fields: object) -> Deposit:
    interrupt = Interrupt(**{"session_id": PAUSED, "source": "operator"} | fields)
    return Deposit(interrupt=interrupt, request_id=uuid4().hex if request_id is None else request_id)


def expiring(seconds: int, nanos: int = 0) -> Deposit:
    return nudge(expire_time=Timestamp(seconds=seconds, nanos=nanos))


def with_data(**values: object) -> Deposit:
    data = Struct()
    data.update(values)
    return notification(data=data)


def with_data_of(json_bytes: int) -> Deposit:
    return with_data(k="x" * (json_bytes - len('{"k":""}')))


def with_objects(depth: int) -> Deposit:
    value: object = 1
    for _ in range(depth):
        value = {"k": value}
    return with_data(**value)


def with_lists(depth: int) -> Deposit:
    """The object that they are in counts too."""
    value: object = 1
    for _ in range(depth - 1):
        value = [value]
    return with_data(k=value)


def batch(posts: int, text: str = "") -> BatchPostInterruptsRequest:
    post = PostInterruptRequest(interrupt=Interrupt(nudge=Nudge(text=text)))
    return BatchPostInterruptsRequest(requests=[post] * posts)


_post = partial(refused, "PostInterrupt")
_invalid = partial(refused, "PostInterrupt", INVALID)

REFUSED_POSTS = [
    *_invalid("interrupt", {"no interrupt": Deposit(request_id="x")}),
    *_invalid("interrupt.session_id", each("session id", BAD_IDS, lambda bad: nudge(session_id=bad))),
    *_post(NO_SESSION, "", {"unknown session": nudge(session_id=UNKNOWN_ID)}),
    *_post(
        ENDED,
        "",
        {
            "nudge for an ended session": nudge(session_id=OVER),
            "notification for an ended session": notification(session_id=OVER),
        },
    ),
    *_invalid(
        "interrupt.source",
        {
            "no source": nudge(source=""),
            "unknown kind of source": nudge(source="boss"),
            "source in capitals": nudge(source="OPERATOR"),
            "source with a blank": nudge(source="operator "),
            "source with a newline": nudge(source="operator\n"),
            "source with a NUL": nudge(source="operator\0"),
            "colon for a source": nudge(source=":"),
            "name without a kind": nudge(source=":ryan"),
            "kind without the name": nudge(source="user:"),
            "name in capitals": nudge(source="user:Ryan"),
            "name with a colon": nudge(source="user:ryan:admin"),
            "name with a slash": nudge(source="service:a/b"),
            "name in another script": nudge(source="user:\u0438\u0432\u0430\u043d"),
            "kind that only looks Latin": nudge(source="us\u0435r:ryan"),
            "name with a zero-width space": nudge(source="user:ry\u200ban"),
            "name of 101 characters": nudge(source="user:" + "x" * 101),
            "agent that is no session": nudge(source="agent:ryan"),
            "agent in capitals": nudge(source="agent:0199C0DE-0000-7000-8000-000000000000"),
            "source of a megabyte": nudge(source="x" * KIB * KIB),
        },
    ),
    *_post(
        NOT_ALLOWED,
        "",
        {
            "nudge by a clock": nudge(source="cron"),
            "nudge by a clock with a name": nudge(source="cron:morning"),
            "nudge by a hook": nudge(source="webhook:ci"),
        },
    ),
    *_invalid("interrupt.body", {"no body": deposit()}),
    *_invalid(
        "interrupt.nudge.text",
        {
            "nudge without words": nudge(""),
            "nudge of blanks": nudge(" \n\t "),
            "nudge of blanks of other kinds": nudge("\u00a0\u2003\u3000"),
        }
        | each("nudge", BAD_TEXTS, nudge),
    ),
    *_invalid("interrupt.notification.text", each("text", BAD_TEXTS, lambda bad: notification(text=bad))),
    *_invalid(
        "interrupt.notification.type",
        {
            "no type": notification(""),
            "type in capitals": notification("Sea.Calm"),
            "type with a blank": notification("sea calm"),
            "type with a newline": notification("sea.calm\n"),
            "type in another script": notification("\u043c\u043e\u0440\u0435"),
            "type of 201 characters": notification("x" * 201),
        },
    ),
    *_invalid(
        "interrupt.notification.subject",
        each("subject", BAD_LINES, lambda bad: notification(subject=bad)),
    ),
    *_invalid(
        "interrupt.notification.data",
        {
            "objects nested 31 deep": with_objects(31),
            "lists nested 31 deep": with_lists(31),
            "data of a byte more than 16 KiB": with_data_of(16 * KIB + 1),
            "data of more than 16 KiB in UTF-8": with_data(k="é" * 8 * KIB),
            "data of a megabyte": with_data_of(KIB * KIB),
            "data of 100,000 keys": with_data(**{str(n): None for n in range(100_000)}),
            "data with a number that is none": with_data(k=nan),
            "data with infinity": with_data(k=[[-inf]]),
            "data with a value that is not set": notification(data=Struct(fields={"k": Value()})),
        },
    ),
    *_invalid(
        "interrupt.delivery",
        {
            "unknown delivery": nudge(delivery=4),
            "negative delivery": nudge(delivery=-1),
            "greatest delivery": nudge(delivery=2**31 - 1),
            "least delivery": nudge(delivery=-(2**31)),
        },
    ),
    *_invalid("interrupt.coalesce_key", each("coalesce key", BAD_LINES, lambda bad: nudge(coalesce_key=bad))),
    *_invalid(
        "interrupt.expire_time",
        {
            "expiry in the past": expiring(1_000_000_000),
            "expiry at the epoch": expiring(0),
            "expiry in the year 1": expiring(-62_135_596_800),
            "expiry before the year 1": expiring(-62_135_596_801),
            "expiry in the year 10000": expiring(END_OF_9999 + 1),
            "expiry at the end of numbers": expiring(2**63 - 1),
            "expiry at their beginning": expiring(-(2**63)),
            "expiry with negative nanoseconds": expiring(END_OF_9999, -1),
            "expiry with a second of nanoseconds": expiring(END_OF_9999, 10**9),
        },
    ),
    *_post(
        TOO_MANY,
        "",
        {
            "one more than a source may have pending": nudge(session_id=CROWDED),
            "one more than may be pending": nudge(session_id=FULL, source="user:fifth"),
        },
    ),
    *_post(
        REUSED,
        "",
        {
            "used id with other words": nudge("Look south.", "used", session_id=OVER),
            "used id with another body": notification(request_id="used", session_id=OVER),
            "used id with another delivery": nudge(request_id="used", session_id=OVER, delivery=2),
            "used id with a coalesce key": nudge(request_id="used", session_id=OVER, coalesce_key="k"),
            "used id with an expiry": nudge(request_id="used", session_id=OVER, expire_time=Timestamp()),
        },
    ),
    *_invalid("request_id", each("request id", BAD_LINES, lambda bad: nudge(request_id=bad))),
    *refused("Deposit", INVALID, "request_id", {"no request id": nudge(request_id="")}),
    *refused(
        "Deposit",
        INVALID,
        "principal",
        each(
            "principal",
            BAD_LINES,
            lambda bad: Deposit(interrupt=nudge().interrupt, request_id="x", principal=bad),
        ),
    ),
    *refused(
        "BatchPostInterrupts",
        INVALID,
        "requests",
        {
            "501 posts": batch(501),
            "100,000 posts": batch(100_000),
            "posts of more than 3 MiB": batch(3, "x" * KIB * KIB),
        },
    ),
    *refused(
        "DepositInterrupts",
        INVALID,
        "deposits",
        {"501 deposits": DepositInterruptsRequest(deposits=[Deposit()] * 501)},
    ),
]

TAKEN_POSTS: Mapping[str, Deposit] = (
    each("nudge", GOOD_TEXTS, nudge)
    | each("text", GOOD_TEXTS, lambda text: notification(text=text))
    | each("subject", GOOD_LINES, lambda line: notification(subject=line))
    | each("coalesce key", GOOD_LINES, lambda line: nudge(coalesce_key=line))
    | each("request id", GOOD_LINES, lambda line: nudge(request_id=line))
    | each("data", GOOD_LINES, lambda line: with_data(**{line: [line]}))
    | {
        "nudge by a service": nudge(source="service:a.b_c-9"),
        "nudge by a kind without a name": nudge(source="agent"),
        "nudge by an agent": nudge(source=f"agent:{UNKNOWN_ID}"),
        "nudge by a name of 100 characters": nudge(source="user:" + "x" * 100),
        "notification by a clock": notification(source="cron:morning"),
        "notification by a hook": notification(source="webhook"),
        "nudge for the next round": nudge(delivery=DELIVERY_NEXT_ROUND),
        "nudge for the next turn": nudge(delivery=DELIVERY_NEXT_TURN),
        "nudge for now": nudge(delivery=DELIVERY_IMMEDIATE),
        "notification of nothing but a type": notification(),
        "type of 200 characters": notification("x" * 200),
        "data of nothing": with_data(),
        "data of 16 KiB": with_data_of(16 * KIB),
        "objects nested 30 deep": with_objects(30),
        "lists nested 30 deep": with_lists(30),
        "data of all kinds": with_data(a=None, b=True, c=-1.5e300, d=5e-324, e=[{}, []], f=""),
        "data with great numbers": with_data(a=2.0**53 + 2, b=1e16, c=1e22, d=-9e15),
        "data with control characters": with_data(**{"\0": "\0\r\x1b\x7f\x85"}),
        "data with an empty key": with_data(**{"": ""}),
        "expiry at the end of 9999": expiring(END_OF_9999, 999_998_000),
    }
)
