from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.domain import (
    Delivery,
    Fact,
    Interrupt,
    InterruptState,
    MessageId,
    Notification,
    Nudge,
    SessionId,
    Settlement,
)
from agent_service.errors import InvalidField, SourceNotAllowed
from agent_service.rpc.convert.interrupt import deposit, interrupt_proto, interrupt_states
from agent_service.settings import Limits
from spark.agent.v1 import agent_service_pb2, interrupt_pb2

LIMITS = Limits(max_text_bytes=64, max_data_bytes=64, max_pending=10, max_pending_per_source=5)
SESSION_ID = "0192f0c1-2b3c-7d4e-8f50-0123456789ab"
NOON = datetime(2026, 3, 4, 12, 0, 0, 250_000, tzinfo=UTC)


def nudge(**changes: object) -> agent_service_pb2.Deposit:
    item = agent_service_pb2.Deposit(request_id="r-1")
    item.interrupt.session_id = SESSION_ID
    item.interrupt.source = "operator"
    item.interrupt.nudge.text = "Look north."
    return change(item, **changes)


def notification(**changes: object) -> agent_service_pb2.Deposit:
    item = nudge(source="service:optimizer")
    item.interrupt.notification.type = "finetune.finished"
    item.interrupt.notification.subject = "ft-1"
    item.interrupt.notification.text = "Done."
    item.interrupt.notification.data.update({"loss": 0.5, "steps": 1200})
    return change(item, **changes)


def change(item: agent_service_pb2.Deposit, **changes: object) -> agent_service_pb2.Deposit:
    """The deposit with other values; a name with two underscores is a path within the interrupt."""
    for name, value in changes.items():
        *path, last = name.split("__")
        target = item.interrupt
        for step in path:
            target = getattr(target, step)
        setattr(target, last, value)
    return item


def test_a_nudge_is_taken_as_it_is() -> None:
    taken = deposit(nudge(coalesce_key="watch"), LIMITS)
    assert taken.session_id == UUID(SESSION_ID)
    assert (taken.source, taken.principal, taken.request_id) == ("operator", "", "r-1")
    assert taken.body == Nudge("Look north.")
    assert (taken.delivery, taken.coalesce_key, taken.expire_time) == (Delivery.NEXT_ROUND, "watch", None)


def test_a_notification_is_taken_with_its_data_in_canonical_form() -> None:
    taken = deposit(notification(), LIMITS)
    assert taken.body == Notification("finetune.finished", "ft-1", "Done.", '{"loss":0.5,"steps":1200}')


def test_a_notification_needs_no_more_than_its_type() -> None:
    item = nudge(source="cron:morning")
    item.interrupt.notification.type = "tick"
    assert deposit(item, LIMITS).body == Notification("tick")


def test_the_principal_comes_from_the_gateway() -> None:
    item = nudge(principal="mallory")
    item.principal = "spiffe://lab/optimizer"
    assert deposit(item, LIMITS).principal == "spiffe://lab/optimizer"


@pytest.mark.parametrize(
    ("number", "delivery"),
    [(0, Delivery.NEXT_ROUND), (1, Delivery.NEXT_ROUND), (2, Delivery.NEXT_TURN), (3, Delivery.IMMEDIATE)],
)
def test_each_delivery_is_accepted_and_none_means_next_round(number: int, delivery: Delivery) -> None:
    assert deposit(nudge(delivery=number), LIMITS).delivery is delivery


@pytest.mark.parametrize(
    "source",
    [
        "operator",
        "user:ryan",
        "service:optimizer",
        "agent",
        f"agent:{SESSION_ID}",
        "user:" + "a" * 100,
        "service:a.b_c-9",
    ],
)
def test_people_services_and_agents_may_nudge(source: str) -> None:
    assert deposit(nudge(source=source), LIMITS).source == source


@pytest.mark.parametrize("source", ["cron", "cron:morning", "webhook:ci"])
def test_cron_and_webhook_may_notify_but_not_nudge(source: str) -> None:
    assert deposit(notification(source=source), LIMITS).source == source
    with pytest.raises(SourceNotAllowed):
        deposit(nudge(source=source), LIMITS)


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (agent_service_pb2.Deposit(request_id="r"), "interrupt"),
        (nudge(session_id=""), "interrupt.session_id"),
        (nudge(session_id="nonsense"), "interrupt.session_id"),
        (nudge(source=""), "interrupt.source"),
        (nudge(source="root"), "interrupt.source"),
        (nudge(source="Operator"), "interrupt.source"),
        (nudge(source="user:"), "interrupt.source"),
        (nudge(source="user:Ryan"), "interrupt.source"),
        (nudge(source="user:a b"), "interrupt.source"),
        (nudge(source="user:ryan\n"), "interrupt.source"),
        (nudge(source="user:" + "a" * 101), "interrupt.source"),
        (nudge(source="agent:optimizer"), "interrupt.source"),
        (nudge(delivery=4), "interrupt.delivery"),
        (nudge(delivery=-1), "interrupt.delivery"),
        (nudge(coalesce_key="k" * 201), "interrupt.coalesce_key"),
        (nudge(coalesce_key="a\nb"), "interrupt.coalesce_key"),
        (nudge(nudge__text=""), "interrupt.nudge.text"),
        (nudge(nudge__text=" \n"), "interrupt.nudge.text"),
        (nudge(nudge__text="x" * 65), "interrupt.nudge.text"),
        (nudge(nudge__text="bell\a"), "interrupt.nudge.text"),
        (notification(notification__type=""), "interrupt.notification.type"),
        (notification(notification__type="Finetune"), "interrupt.notification.type"),
        (notification(notification__type="t" * 201), "interrupt.notification.type"),
        (notification(notification__subject="s" * 201), "interrupt.notification.subject"),
        (notification(notification__subject="a\tb"), "interrupt.notification.subject"),
        (notification(notification__text="x" * 65), "interrupt.notification.text"),
        (notification(notification__text="nul\0"), "interrupt.notification.text"),
    ],
)
def test_a_violation_names_the_field_as_the_caller_wrote_it(
    item: agent_service_pb2.Deposit, field: str
) -> None:
    assert violated(lambda: deposit(item, LIMITS)) == field


def violated(check: Callable[[], object]) -> str:
    with pytest.raises(InvalidField) as caught:
        check()
    return caught.value.violations[0].field


def test_an_interrupt_that_says_nothing_is_refused() -> None:
    item = nudge()
    item.interrupt.ClearField("body")
    assert violated(lambda: deposit(item, LIMITS)) == "interrupt.body"


@pytest.mark.parametrize("request_id", ["", "r" * 201, "a\nb"])
def test_a_request_id_is_required_and_short(request_id: str) -> None:
    item = nudge()
    item.request_id = request_id
    assert violated(lambda: deposit(item, LIMITS)) == "request_id"


def test_too_much_data_is_refused_by_the_name_of_its_setting() -> None:
    item = notification()
    item.interrupt.notification.data.update({"log": "x" * 64})
    with pytest.raises(InvalidField, match=r"interrupt\.notification\.data: .*SPARK_MAX_DATA_BYTES"):
        deposit(item, LIMITS)


def test_an_expire_time_is_taken_even_if_it_has_passed() -> None:
    item = nudge()
    item.interrupt.expire_time.FromDatetime(datetime(2001, 1, 1))  # noqa: DTZ001
    assert deposit(item, LIMITS).expire_time == datetime(2001, 1, 1, tzinfo=UTC)


def test_an_expire_time_that_is_no_time_is_refused() -> None:
    item = nudge()
    item.interrupt.expire_time.seconds = 2**62
    assert violated(lambda: deposit(item, LIMITS)) == "interrupt.expire_time"


def test_output_only_fields_are_ignored() -> None:
    item = nudge(interrupt_id="x", state=3, revision=9, position=9, turn=9, settle_reason="x", principal="x")
    item.interrupt.create_time.seconds = 2**62
    assert deposit(item, LIMITS) == deposit(nudge(), LIMITS)


def later(item: agent_service_pb2.Deposit) -> agent_service_pb2.Deposit:
    item.interrupt.expire_time.CopyFrom(Timestamp(seconds=2_000_000_000))
    return item


def without_data(item: agent_service_pb2.Deposit) -> agent_service_pb2.Deposit:
    item.interrupt.notification.ClearField("data")
    return item


def test_the_digest_tells_apart_what_is_asked_for() -> None:
    asked = [
        nudge(),
        nudge(nudge__text="Look south."),
        nudge(delivery=2),
        nudge(coalesce_key="k"),
        later(nudge()),
        notification(),
        notification(notification__type="other"),
        notification(notification__subject="other"),
        notification(notification__text="other"),
        without_data(notification()),
    ]
    assert len({deposit(item, LIMITS).digest for item in asked}) == len(asked)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nudge(), nudge(delivery=1)),
        (nudge(), nudge(source="user:ryan")),
        (nudge(), nudge(session_id="0192f0c1-2b3c-7d4e-8f50-000000000000")),
    ],
    ids=["no delivery is next round", "source is in the key", "session is in the key"],
)
def test_the_digest_is_the_same_for_the_same_request(
    one: agent_service_pb2.Deposit, other: agent_service_pb2.Deposit
) -> None:
    assert deposit(one, LIMITS).digest == deposit(other, LIMITS).digest


def test_the_digest_does_not_depend_on_the_order_of_the_data() -> None:
    backwards = without_data(notification())
    for key, value in (("steps", 1200), ("loss", 0.5)):
        backwards.interrupt.notification.data[key] = value
    assert deposit(backwards, LIMITS).digest == deposit(notification(), LIMITS).digest


def stored(**changes: object) -> Interrupt:
    fields: dict[str, object] = {
        "interrupt_id": MessageId(UUID("0192f0c1-2b3c-7d4e-8f50-0123456789ff")),
        "session_id": SessionId(UUID(SESSION_ID)),
        "source": "service:optimizer",
        "principal": "p",
        "body": Notification("finetune.finished", "ft-1", "Done.", '{"steps":1200}'),
        "delivery": Delivery.NEXT_TURN,
        "coalesce_key": "k",
        "expire_time": NOON + timedelta(hours=1),
        "posted": Fact(NOON, 3),
    }
    return Interrupt(**(fields | changes))  # type: ignore[arg-type]


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=int(NOON.timestamp()) + seconds, nanos=250_000_000)


def test_a_pending_interrupt_goes_out_with_all_it_has() -> None:
    data = Struct()
    data["steps"] = 1200
    assert interrupt_proto(stored()) == interrupt_pb2.Interrupt(
        interrupt_id="0192f0c1-2b3c-7d4e-8f50-0123456789ff",
        session_id=SESSION_ID,
        source="service:optimizer",
        principal="p",
        delivery=interrupt_pb2.DELIVERY_NEXT_TURN,
        state=interrupt_pb2.INTERRUPT_STATE_PENDING,
        revision=3,
        create_time=at(0),
        expire_time=at(3600),
        coalesce_key="k",
        notification=interrupt_pb2.Notification(
            type="finetune.finished", subject="ft-1", text="Done.", data=data
        ),
    )


def test_a_seen_interrupt_goes_out_with_its_place_and_its_times() -> None:
    delivered, seen = Fact(NOON + timedelta(seconds=1), 4), Fact(NOON + timedelta(seconds=2), 5)
    proto = interrupt_proto(
        stored(delivered=delivered, seen=seen, position=7, turn=2, round=1, body=Nudge("Look."))
    )
    assert proto.state == interrupt_pb2.INTERRUPT_STATE_SEEN
    assert (proto.deliver_time, proto.seen_time) == (at(1), at(2))
    assert (proto.position, proto.turn, proto.round, proto.nudge.text) == (7, 2, 1, "Look.")
    assert not proto.HasField("settle_time")


def test_a_settled_interrupt_goes_out_with_the_reason() -> None:
    settled = Settlement(Fact(NOON + timedelta(seconds=1), 4), InterruptState.SUPERSEDED, "a later one came")
    proto = interrupt_proto(stored(settled=settled, expire_time=None))
    assert proto.state == interrupt_pb2.INTERRUPT_STATE_SUPERSEDED
    assert (proto.settle_time, proto.settle_reason) == (at(1), "a later one came")
    assert not proto.HasField("expire_time")
    assert not proto.HasField("deliver_time")


@pytest.mark.parametrize("item", [nudge(), notification(), without_data(notification())])
def test_what_was_said_comes_out_as_it_went_in(item: agent_service_pb2.Deposit) -> None:
    proto = interrupt_proto(stored(body=deposit(item, LIMITS).body))
    assert proto.WhichOneof("body") == item.interrupt.WhichOneof("body")
    assert proto.nudge == item.interrupt.nudge
    assert proto.notification == item.interrupt.notification


def test_a_filter_may_name_states_that_exist() -> None:
    assert interrupt_states("states", [1, 6]) == (InterruptState.PENDING, InterruptState.SUPERSEDED)
    for number in (0, 7, -1):
        with pytest.raises(InvalidField, match="states"):
            interrupt_states("states", [number])
