from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.domain import (
    Activity,
    NewSession,
    Session,
    SessionConfig,
    SessionId,
    SessionMode,
    SessionReading,
    SessionState,
    Usage,
)
from agent_service.errors import ConfigNotFound, InvalidField
from agent_service.rpc.convert.session import (
    SessionChecks,
    labels,
    new_session,
    reading_proto,
    session_proto,
    session_states,
)
from agent_service.settings import Limits
from spark.agent.v1 import session_pb2
from spark.agent.v1.agent_service_pb2 import CreateSessionRequest

LIMITS = Limits(max_text_bytes=64, max_data_bytes=64, max_pending=10, max_pending_per_source=5)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
CHECKS = SessionChecks(LIMITS, ("local", "demo"), ("now", "wait", "note"))


def request(**session: object) -> CreateSessionRequest:
    return CreateSessionRequest(session=session_pb2.Session(**{"goal": "Keep the lamp."} | session))  # type: ignore[arg-type]


def configured(**config: object) -> CreateSessionRequest:
    return request(config=session_pb2.SessionConfig(**config))  # type: ignore[arg-type]


def taken(request: CreateSessionRequest) -> NewSession:
    return new_session(request, CHECKS)


def violated(check: Callable[[], object]) -> str:
    with pytest.raises(InvalidField) as caught:
        check()
    return caught.value.violations[0].field


def test_a_session_needs_no_more_than_a_goal() -> None:
    new = taken(request())
    assert (new.goal, new.display_name, new.labels, new.request_id) == ("Keep the lamp.", "", {}, "")
    assert new.config == SessionConfig("local")


def test_a_session_is_taken_as_it_is() -> None:
    config = session_pb2.SessionConfig(
        model="demo",
        inner_voice_model="local",
        tools=["now", "note"],
        inner_voice_prompt="Go on.",
        disable_inner_voice=True,
        mode=session_pb2.SESSION_MODE_ON_INTERRUPT,
        cooldown=Duration(seconds=90),
        max_rounds_per_turn=3,
        max_turns=4,
        token_budget=2**40,
    )
    sent = request(display_name="lamp", labels={"team": "a"}, config=config)
    sent.request_id = "r-1"
    new = taken(sent)
    assert (new.display_name, new.labels, new.request_id) == ("lamp", {"team": "a"}, "r-1")
    assert new.config == SessionConfig(
        model="demo",
        inner_voice_model="local",
        tools=("now", "note"),
        inner_voice_prompt="Go on.",
        disable_inner_voice=True,
        mode=SessionMode.ON_INTERRUPT,
        cooldown=timedelta(seconds=90),
        max_rounds_per_turn=3,
        max_turns=4,
        token_budget=2**40,
    )


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (CreateSessionRequest(), "session"),
        (CreateSessionRequest(session=session_pb2.Session()), "session.goal"),
        (request(goal=" \n"), "session.goal"),
        (request(goal="x" * 65), "session.goal"),
        (request(goal="bell\a"), "session.goal"),
        (request(display_name="n" * 201), "session.display_name"),
        (request(display_name="a\nb"), "session.display_name"),
        (request(labels={str(n): "" for n in range(65)}), "session.labels"),
        (request(labels={"": "x"}), "session.labels.key"),
        (request(labels={"k" * 64: "x"}), "session.labels.key"),
        (request(labels={"k": "v" * 201}), "session.labels.value"),
        (request(labels={"k": "a\0b"}), "session.labels.value"),
        (configured(model="m" * 201), "session.config.model"),
        (configured(inner_voice_model="a\nb"), "session.config.inner_voice_model"),
        (configured(tools=["now", "now"]), "session.config.tools"),
        (configured(tools=[""]), "session.config.tools"),
        (configured(inner_voice_prompt="x" * 65), "session.config.inner_voice_prompt"),
        (configured(mode=3), "session.config.mode"),
        (configured(cooldown=Duration(seconds=-1)), "session.config.cooldown"),
        (configured(cooldown=Duration(seconds=366 * 86_400)), "session.config.cooldown"),
        (configured(max_rounds_per_turn=-1), "session.config.max_rounds_per_turn"),
        (configured(max_turns=-1), "session.config.max_turns"),
        (configured(token_budget=-1), "session.config.token_budget"),
    ],
)
def test_a_violation_names_the_field_as_the_caller_wrote_it(sent: CreateSessionRequest, field: str) -> None:
    assert violated(lambda: taken(sent)) == field


def test_a_request_id_is_short() -> None:
    sent = request()
    sent.request_id = "r" * 201
    assert violated(lambda: taken(sent)) == "request_id"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (configured(model="gpt"), "model 'gpt' is not configured; known: local, demo"),
        (configured(inner_voice_model="gpt"), "model 'gpt' is not configured; known: local, demo"),
        (configured(tools=["now", "rm"]), "tool 'rm' is not configured; known: now, wait, note"),
    ],
)
def test_what_is_not_configured_is_named_with_what_is(sent: CreateSessionRequest, text: str) -> None:
    with pytest.raises(ConfigNotFound) as caught:
        taken(sent)
    assert str(caught.value) == text


def test_output_only_fields_are_ignored() -> None:
    usage = session_pb2.Usage(input_tokens=5)
    sent = request(session_id="x", state=3, state_reason="x", activity=9, revision=9, turn=9, usage=usage)
    assert taken(sent) == taken(request())


def test_the_digest_tells_apart_what_is_asked_for() -> None:
    asked = [
        request(),
        request(goal="Put it out."),
        request(display_name="lamp"),
        request(labels={"a": "b"}),
        configured(model="local"),
        configured(inner_voice_model="demo"),
        configured(tools=["now", "note"]),
        configured(tools=["note", "now"]),
        configured(inner_voice_prompt="Go on."),
        configured(disable_inner_voice=True),
        configured(mode=2),
        configured(cooldown=Duration(nanos=1_000)),
        configured(max_rounds_per_turn=1),
        configured(max_turns=1),
        configured(token_budget=1),
    ]
    assert len({taken(sent).digest for sent in asked}) == len(asked)


def test_the_digest_is_the_same_for_the_same_request() -> None:
    backwards = request(labels={"b": "2", "a": "1"})
    backwards.request_id = "r-1"
    assert taken(backwards).digest == taken(request(labels={"a": "1", "b": "2"})).digest
    assert taken(configured(mode=1)).digest == taken(request()).digest


def test_the_digest_does_not_change_with_the_default_model() -> None:
    now = new_session(request(), replace(CHECKS, known_models=("other", "local")))
    assert now.config.model == "other"
    assert now.digest == taken(request()).digest


def test_a_filter_may_name_states_that_exist() -> None:
    assert session_states("states", [1, 3]) == (SessionState.ACTIVE, SessionState.ENDED)
    for number in (0, 5, -1):
        assert violated(lambda n=number: session_states("states", [n])) == "states"  # type: ignore[misc]


def test_a_filter_has_labels_like_those_of_a_session() -> None:
    assert labels("labels", {"team": "a"}) == {"team": "a"}
    assert violated(lambda: labels("labels", {"k" * 64: "a"})) == "labels.key"


SESSION = Session(
    session_id=SessionId(UUID("0192f0c1-2b3c-7d4e-8f50-0123456789ab")),
    display_name="lamp",
    goal="Keep the lamp.",
    state=SessionState.PAUSED,
    state_reason="max_turns reached",
    config=SessionConfig("demo", tools=("now",), cooldown=timedelta(seconds=1.5)),
    labels={"team": "a"},
    revision=17,
    turn=4,
    create_time=NOON,
)


def test_a_session_goes_out_with_its_facts_and_nothing_else() -> None:
    assert session_proto(SESSION) == session_pb2.Session(
        session_id="0192f0c1-2b3c-7d4e-8f50-0123456789ab",
        display_name="lamp",
        goal="Keep the lamp.",
        state=session_pb2.SESSION_STATE_PAUSED,
        state_reason="max_turns reached",
        config=session_pb2.SessionConfig(
            model="demo",
            tools=["now"],
            mode=session_pb2.SESSION_MODE_AUTONOMOUS,
            cooldown=Duration(seconds=1, nanos=500_000_000),
        ),
        labels={"team": "a"},
        revision=17,
        turn=4,
        create_time=Timestamp(seconds=int(NOON.timestamp())),
    )


def test_a_reading_adds_what_was_read_beside_the_facts() -> None:
    usage = Usage(input_tokens=1, cached_input_tokens=2, output_tokens=3, model_requests=4)
    proto = reading_proto(SessionReading(SESSION, Activity.BACKING_OFF, 2, NOON, usage))
    assert proto.activity == session_pb2.ACTIVITY_BACKING_OFF
    assert proto.pending_interrupts == 2
    assert proto.next_turn_time == Timestamp(seconds=int(NOON.timestamp()))
    assert proto.usage == session_pb2.Usage(
        input_tokens=1, cached_input_tokens=2, output_tokens=3, model_requests=4
    )


def test_a_session_that_never_goes_on_by_itself_has_no_next_turn_time() -> None:
    proto = reading_proto(SessionReading(SESSION, Activity.STOPPED, 0, None, Usage()))
    assert not proto.HasField("next_turn_time")


def test_a_config_comes_out_as_it_went_in() -> None:
    sent = configured(
        model="demo", mode=2, cooldown=Duration(seconds=5), tools=["wait"], disable_inner_voice=True
    )
    stored = replace(SESSION, config=taken(sent).config)
    assert session_proto(stored).config == sent.session.config
