"""Interrupts: a Deposit on its way in, an Interrupt on its way out."""

import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from google.protobuf.struct_pb2 import Struct

from agent_service.domain import (
    Delivery,
    Deposit,
    Interrupt,
    InterruptState,
    Json,
    Notification,
    Nudge,
)
from agent_service.errors import SourceNotAllowed
from agent_service.rpc.convert import enums, fields
from agent_service.rpc.convert.fields import invalid
from agent_service.rpc.convert.struct import canonical, data_json, struct
from agent_service.settings import Limits
from spark.agent.v1 import agent_service_pb2, interrupt_pb2

_DELIVERY_NUMBERS = enums.numbers(Delivery, interrupt_pb2.Delivery.Value, "DELIVERY")
_DELIVERIES = enums.members(_DELIVERY_NUMBERS, unset=Delivery.NEXT_ROUND)
_STATE_NUMBERS = enums.numbers(InterruptState, interrupt_pb2.InterruptState.Value, "INTERRUPT_STATE")
_STATES = enums.members(_STATE_NUMBERS)

_SOURCE = re.compile(
    r"(?:operator|user|service|cron|webhook)(?::[a-z0-9._-]{1,100})?"
    r"|agent(?::[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?"
)
_NUDGING_KINDS = frozenset({"operator", "user", "service", "agent"})
_NOTIFICATION_TYPE = re.compile(r"[a-z0-9._-]{1,200}")


def deposit(item: agent_service_pb2.Deposit, limits: Limits) -> Deposit:
    """Check a deposit. An expire time that has passed is let through: a repeated call may come late.

    Paths in errors are relative to the deposit. Raises InvalidField, SourceNotAllowed.
    """
    if not item.HasField("interrupt"):
        raise invalid("interrupt", "is required")
    sent = item.interrupt
    session_id = fields.session_id("interrupt.session_id", sent.session_id)
    kind = _kind("interrupt.source", sent.source)
    body = _body(sent, limits)
    if isinstance(body, Nudge) and kind not in _NUDGING_KINDS:
        raise SourceNotAllowed(sent.source)
    delivery = fields.member("interrupt.delivery", sent.delivery, _DELIVERIES)
    coalesce_key = fields.line("interrupt.coalesce_key", sent.coalesce_key)
    expire_time = (
        fields.time("interrupt.expire_time", sent.expire_time) if sent.HasField("expire_time") else None
    )
    return Deposit(
        session_id=session_id,
        source=sent.source,
        principal=fields.line("principal", item.principal),
        body=body,
        delivery=delivery,
        coalesce_key=coalesce_key,
        expire_time=expire_time,
        request_id=fields.required_line("request_id", item.request_id),
        digest=_digest(body, delivery, coalesce_key, expire_time),
    )


def _kind(field: str, source: str) -> str:
    if not source:
        raise invalid(field, "is required")
    if not _SOURCE.fullmatch(source):
        raise invalid(
            field,
            "is not kind or kind:name with one of the kinds operator, user, service, cron, webhook, agent "
            "and a name of 1 to 100 characters a-z 0-9 . _ -, for an agent its session id",
        )
    return source.partition(":")[0]


def _body(sent: interrupt_pb2.Interrupt, limits: Limits) -> Nudge | Notification:
    kind = sent.WhichOneof("body")
    match kind:
        case "nudge":
            text = fields.required_text("interrupt.nudge.text", sent.nudge.text, limits.max_text_bytes)
            return Nudge(text)
        case "notification":
            return _notification("interrupt.notification", sent.notification, limits)
        case None:
            raise invalid("interrupt.body", "is required: a nudge or a notification")
        case _:
            assert_never(kind)


def _notification(field: str, sent: interrupt_pb2.Notification, limits: Limits) -> Notification:
    if not _NOTIFICATION_TYPE.fullmatch(sent.type):
        raise invalid(f"{field}.type", "is required: 1 to 200 characters a-z 0-9 . _ -")
    return Notification(
        type=sent.type,
        subject=fields.line(f"{field}.subject", sent.subject),
        text=fields.text(f"{field}.text", sent.text, limits.max_text_bytes),
        data_json=data_json(f"{field}.data", sent.data, limits.max_data_bytes)
        if sent.HasField("data")
        else "",
    )


def _digest(
    body: Nudge | Notification, delivery: Delivery, coalesce_key: str, expire_time: datetime | None
) -> bytes:
    """Tells two deposits with the same request id apart by what they ask for."""
    said: list[Json]
    match body:
        case Nudge(text):
            said = ["nudge", text]
        case Notification(type, subject, text, data):
            said = ["notification", type, subject, text, data]
        case _:
            assert_never(body)
    asked = [*said, delivery.value, coalesce_key, expire_time.isoformat() if expire_time else None]
    return hashlib.sha256(canonical(asked).encode()).digest()


def interrupt_states(field: str, sent: Iterable[int]) -> tuple[InterruptState, ...]:
    """Each state once, however often it was sent."""
    return tuple(dict.fromkeys(fields.member(field, number, _STATES) for number in sent))


def interrupt_proto(interrupt: Interrupt, sent_data: Struct | None = None) -> interrupt_pb2.Interrupt:
    """Data that was checked in its deposit need not be made again."""
    proto = interrupt_pb2.Interrupt(
        interrupt_id=str(interrupt.interrupt_id),
        session_id=str(interrupt.session_id),
        source=interrupt.source,
        principal=interrupt.principal,
        delivery=_DELIVERY_NUMBERS[interrupt.delivery],
        state=_STATE_NUMBERS[interrupt.state],
        revision=interrupt.posted.revision,
        create_time=fields.timestamp(interrupt.posted.time),
        coalesce_key=interrupt.coalesce_key,
    )
    if interrupt.expire_time:
        proto.expire_time.CopyFrom(fields.timestamp(interrupt.expire_time))
    if delivered := interrupt.delivered:
        proto.deliver_time.CopyFrom(fields.timestamp(delivered.time))
        proto.position, proto.turn, proto.round = interrupt.position, interrupt.turn, interrupt.round
    if seen := interrupt.seen:
        proto.seen_time.CopyFrom(fields.timestamp(seen.time))
    if settled := interrupt.settled:
        proto.settle_time.CopyFrom(fields.timestamp(settled.fact.time))
        proto.settle_reason = settled.reason
    match interrupt.body:
        case Nudge(text):
            proto.nudge.text = text
        case Notification(type, subject, text, data):
            said = proto.notification
            said.type, said.subject, said.text = type, subject, text
            if data:
                said.data.CopyFrom(sent_data or struct(data))
        case _:
            assert_never(interrupt.body)
    return proto
