import pytest

from gateway import policy
from gateway.errors import InvalidField, SourceNotAllowed
from spark.agent.v1.interrupt_pb2 import Interrupt, Notification, Nudge
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from tests.gateway.statuses import info, violations

SESSION = "0199c0de-0000-7000-8000-000000000001"
NUDGE = Interrupt(session_id=SESSION, nudge=Nudge(text="stop"))
NOTIFICATION = Interrupt(session_id=SESSION, notification=Notification(type="build.done"))


def request(source: str, body: Interrupt = NUDGE) -> PostInterruptRequest:
    post = PostInterruptRequest(interrupt=body, request_id="r1")
    post.interrupt.source = source
    return post


@pytest.mark.parametrize(
    "source",
    [
        "operator",
        "user:ryan",
        "service:optimizer",
        "service:a.b_c-9",
        f"agent:{SESSION}",
        "user:" + "x" * 100,
    ],
)
def test_who_may_instruct_may_nudge_and_notify(source):
    for body in (NUDGE, NOTIFICATION):
        assert policy.admit("", request(source, body)).interrupt.source == source


@pytest.mark.parametrize("source", ["cron", "cron:morning", "webhook:ci"])
def test_a_clock_or_a_hook_may_notify_but_not_nudge(source):
    assert policy.admit("", request(source, NOTIFICATION)).interrupt.source == source

    with pytest.raises(SourceNotAllowed) as refused:
        policy.admit("", request(source))
    assert info(refused.value).reason == "SOURCE_NOT_ALLOWED"
    assert info(refused.value).metadata == {"source": source}


@pytest.mark.parametrize(
    "source",
    [
        "",
        ":",
        "user:",
        "Operator",
        "user:Ryan",
        "operator ",
        "user:a b",
        "user:a\n",
        "user:é",
        "root",
        "user:ryan:admin",
        "agent:ryan",
        f"agent:{SESSION.upper()}",
        "user:" + "x" * 101,
    ],
)
def test_a_source_of_another_form_is_an_invalid_field(source):
    with pytest.raises(InvalidField) as refused:
        policy.admit("", request(source))

    assert violations(refused.value) == ["interrupt.source"]


def test_a_request_without_an_interrupt_is_an_invalid_field():
    with pytest.raises(InvalidField) as refused:
        policy.admit("", PostInterruptRequest(request_id="r1"))

    assert violations(refused.value) == ["interrupt"]


def test_the_deposit_carries_the_interrupt_as_it_came_and_the_principal():
    post = request("operator")
    post.interrupt.coalesce_key = "k"
    post.interrupt.notification.data.update({"loss": 0.25})

    deposit = policy.admit("alice", post)

    assert deposit.interrupt == post.interrupt
    assert (deposit.request_id, deposit.principal) == ("r1", "alice")
