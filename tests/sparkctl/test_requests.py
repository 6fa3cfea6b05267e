import time

import pytest

from spark.agent.v1.interrupt_pb2 import Delivery
from spark.agent.v1.session_pb2 import SessionMode
from sparkctl import requests
from sparkctl.failures import UsageFailed
from sparkctl.requests import When


def session(**options):
    defaults = {"name": "", "model": "", "on_interrupt": False, "cooldown_seconds": 0, "labels": ()}
    return requests.session("Keep the lamp.", **defaults | options)


def interrupt(**options):
    defaults = {"source": "operator", "notify": "", "subject": "", "data": "", "when": When.NEXT_ROUND}
    return requests.interrupt(
        "Look out.", **defaults | {"coalesce_key": "", "expires_seconds": None} | options
    )


def test_a_session_is_autonomous_unless_it_is_for_interrupts():
    assert session().config.mode == SessionMode.SESSION_MODE_AUTONOMOUS
    assert session(on_interrupt=True).config.mode == SessionMode.SESSION_MODE_ON_INTERRUPT


def test_a_session_takes_its_cooldown_and_labels():
    wanted = session(cooldown_seconds=1.5, labels=["team=night watch", "empty=", "a=b=c"])

    assert wanted.config.cooldown.ToMilliseconds() == 1500
    assert dict(wanted.labels) == {"team": "night watch", "empty": "", "a": "b=c"}


@pytest.mark.parametrize("label", ["team", "=x", ""])
def test_a_label_needs_a_key_and_a_value(label):
    with pytest.raises(UsageFailed, match="--label must be KEY=VALUE"):
        session(labels=[label])


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e300])
def test_a_time_must_be_one(seconds):
    with pytest.raises(UsageFailed, match="--cooldown must be"):
        session(cooldown_seconds=seconds)
    with pytest.raises(UsageFailed, match="--expires must be"):
        interrupt(expires_seconds=seconds)


def test_words_alone_are_a_nudge():
    asked = interrupt(coalesce_key="k")

    assert (asked.nudge.text, asked.source, asked.coalesce_key) == ("Look out.", "operator", "k")
    assert not asked.HasField("expire_time")


def test_a_type_makes_it_a_notification():
    asked = interrupt(notify="finetune.finished", subject="job-7", data='{"loss": 0.5, "tags": [null]}')

    assert (asked.notification.type, asked.notification.subject) == ("finetune.finished", "job-7")
    assert asked.notification.text == "Look out."
    assert asked.notification.data["loss"] == 0.5


@pytest.mark.parametrize("data", ["[1]", '"text"', "{", "nothing", "null"])
def test_data_must_be_an_object(data):
    with pytest.raises(UsageFailed, match="--data must be a JSON object"):
        interrupt(notify="finetune.finished", data=data)


@pytest.mark.parametrize("option", ["subject", "data"])
def test_a_nudge_has_neither_subject_nor_data(option):
    with pytest.raises(UsageFailed, match="--notify"):
        interrupt(**{option: "{}"})


@pytest.mark.parametrize("when", When)
def test_every_delivery_can_be_asked_for(when):
    asked = interrupt(when=when)

    assert Delivery.Name(asked.delivery) == f"DELIVERY_{when.name}"


def test_an_expiry_is_counted_from_now():
    asked = interrupt(expires_seconds=60)

    assert asked.expire_time.seconds == pytest.approx(time.time() + 60, abs=5)
