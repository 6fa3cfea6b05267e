import time
from operator import attrgetter

import pytest
from google.protobuf.duration_pb2 import Duration

from spark.agent.v1.agent_service_pb2 import UpdateSessionRequest
from spark.agent.v1.interrupt_pb2 import Delivery
from spark.agent.v1.session_pb2 import Session, SessionMode
from sparkctl import requests
from sparkctl.failures import UsageFailed
from sparkctl.requests import Mode, When


def interrupt(**options):
    defaults = {"source": "operator", "notify": "", "subject": "", "data": "", "when": When.NEXT_ROUND}
    return requests.interrupt(
        "Look out.", **defaults | {"coalesce_key": "", "expires_seconds": None, "expires_at": ""} | options
    )


@pytest.mark.parametrize(
    ("option", "path", "field"),
    [
        ({"goal": "Keep the lamp."}, "goal", "Keep the lamp."),
        ({"name": "lighthouse"}, "display_name", "lighthouse"),
        ({"labels": ["a=b=c d", "empty="]}, "labels", {"a": "b=c d", "empty": ""}),
        ({"labels": [""]}, "labels", {}),
        ({"model": "local"}, "config.model", "local"),
        ({"inner_voice_model": ""}, "config.inner_voice_model", ""),
        ({"tools": ["now", "web"]}, "config.tools", ["now", "web"]),
        ({"tools": [""]}, "config.tools", []),
        ({"inner_voice_prompt": "Be brief."}, "config.inner_voice_prompt", "Be brief."),
        ({"inner_voice": True}, "config.disable_inner_voice", False),
        ({"inner_voice": False}, "config.disable_inner_voice", True),
        ({"mode": Mode.AUTONOMOUS}, "config.mode", SessionMode.SESSION_MODE_AUTONOMOUS),
        ({"mode": Mode.ON_INTERRUPT}, "config.mode", SessionMode.SESSION_MODE_ON_INTERRUPT),
        ({"cooldown_seconds": 1.5}, "config.cooldown", Duration(seconds=1, nanos=500_000_000)),
        ({"cooldown_seconds": 0}, "config.cooldown", Duration()),
        ({"max_rounds": 0}, "config.max_rounds_per_turn", 0),
        ({"max_turns": 7}, "config.max_turns", 7),
        ({"token_budget": 2**40}, "config.token_budget", 2**40),
    ],
)  # fmt: skip
def test_an_option_of_a_session_sets_its_field_and_names_it_in_the_mask(option, path, field):
    asked = requests.session(**option)

    assert list(asked.update_mask.paths) == [path]
    assert attrgetter(path)(asked.session) == field


def test_options_that_were_not_given_are_not_in_the_mask():
    assert requests.session() == UpdateSessionRequest(session=Session(config={}), update_mask={})


@pytest.mark.parametrize("label", ["team", "=x"])
def test_a_label_needs_a_key_and_a_value(label):
    with pytest.raises(UsageFailed, match="--label must be KEY=VALUE"):
        requests.session(labels=[label])


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e300])
def test_a_time_must_be_one(seconds):
    with pytest.raises(UsageFailed, match="--cooldown must be"):
        requests.session(cooldown_seconds=seconds)
    with pytest.raises(UsageFailed, match="--expires must be"):
        interrupt(expires_seconds=seconds)


@pytest.mark.parametrize("option", ["max_rounds", "max_turns", "token_budget"])
def test_a_limit_that_the_contract_cannot_carry_is_refused(option):
    with pytest.raises(UsageFailed, match="too large"):
        requests.session(**{option: 2**63})


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-31T10:00:00Z", 1769853600),
        ("2026-01-31T10:00:00+01:00", 1769850000),
        ("2026-01-31T10:00:00.5-00:30", 1769855400),
    ],
)
def test_an_expiry_may_be_a_time_and_is_then_the_same_each_time(text, seconds):
    assert interrupt(expires_at=text).expire_time.seconds == seconds
    assert interrupt(expires_at=text) == interrupt(expires_at=text)


@pytest.mark.parametrize(
    "text", ["10:00", "2026-01-31", "2026-01-31T10:00:00", "2026-02-31T10:00:00Z", "soon"]
)
def test_a_time_without_a_zone_or_that_is_none_is_refused(text):
    with pytest.raises(UsageFailed, match="--expires-at must be a time like"):
        interrupt(expires_at=text)


def test_an_expiry_is_said_in_one_way():
    with pytest.raises(UsageFailed, match="give one of them"):
        interrupt(expires_seconds=60, expires_at="2026-01-31T10:00:00Z")
