from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from agent_service.domain import Session, SessionConfig, SessionId, SessionMode, SessionState
from agent_service.errors import ConfigNotFound, InvalidField
from agent_service.rpc.convert.session import SessionChecks, session_proto
from agent_service.rpc.convert.update import session_change
from agent_service.settings import Limits
from spark.agent.v1 import session_pb2
from spark.agent.v1.agent_service_pb2 import UpdateSessionRequest

LIMITS = Limits(max_text_bytes=64, max_data_bytes=64, max_pending=10, max_pending_per_source=5)
CHECKS = SessionChecks(LIMITS, ("local", "demo"), ("now", "wait", "note"))

# As it was stored when there was still a model named gpt and a tool named rm.
STORED = Session(
    session_id=SessionId(UUID("0192f0c1-2b3c-7d4e-8f50-0123456789ab")),
    display_name="lamp",
    goal="Keep the lamp.",
    state=SessionState.PAUSED,
    state_reason="on request",
    config=SessionConfig(
        model="gpt",
        inner_voice_model="gpt",
        tools=("rm", "now"),
        inner_voice_prompt="Go on.",
        disable_inner_voice=True,
        mode=SessionMode.ON_INTERRUPT,
        cooldown=timedelta(seconds=1),
        max_rounds_per_turn=1,
        max_turns=2,
        token_budget=3,
    ),
    labels={"team": "a"},
    revision=17,
    turn=4,
    create_time=datetime(2026, 3, 4, 12, tzinfo=UTC),
)

# A new value for each field that can be changed, as a caller sends it and as it is stored.
NEW: Mapping[str, tuple[object, object]] = {
    "display_name": ("light", "light"),
    "goal": ("Put it out.", "Put it out."),
    "labels": ({"env": "test"}, {"env": "test"}),
    "config.model": ("demo", "demo"),
    "config.inner_voice_model": ("local", "local"),
    "config.tools": (["note", "wait"], ("note", "wait")),
    "config.inner_voice_prompt": ("What now?", "What now?"),
    "config.disable_inner_voice": (False, False),
    "config.mode": (session_pb2.SESSION_MODE_AUTONOMOUS, SessionMode.AUTONOMOUS),
    "config.cooldown": (Duration(seconds=90), timedelta(seconds=90)),
    "config.max_rounds_per_turn": (5, 5),
    "config.max_turns": (0, 0),
    "config.token_budget": (2**40, 2**40),
}


def proto(config: Mapping[str, object] | None = None, **fields: object) -> session_pb2.Session:
    sent = session_pb2.Session(**fields)  # type: ignore[arg-type]
    if config is not None:
        sent.config.CopyFrom(session_pb2.SessionConfig(**config))  # type: ignore[arg-type]
    return sent


def everything_new() -> session_pb2.Session:
    config = {path.removeprefix("config."): sent for path, (sent, _) in NEW.items() if "." in path}
    return proto(config, **{path: sent for path, (sent, _) in NEW.items() if "." not in path})


def changed(sent: session_pb2.Session, *paths: str, stored: Session = STORED) -> Session:
    """What becomes of the stored session."""
    request = UpdateSessionRequest(session=sent, update_mask=FieldMask(paths=paths))
    return session_change(request, CHECKS)(stored)


def with_new(*paths: str) -> Session:
    """The stored session with the new values of these fields."""
    of_config = {path.removeprefix("config."): NEW[path][1] for path in paths if "." in path}
    of_session = {path: NEW[path][1] for path in paths if "." not in path}
    config = replace(STORED.config, **of_config)  # type: ignore[arg-type]
    return replace(STORED, config=config, **of_session)  # type: ignore[arg-type]


def refused(sent: session_pb2.Session, *paths: str) -> tuple[str, str]:
    with pytest.raises(InvalidField) as caught:
        changed(sent, *paths)
    (violation,) = caught.value.violations
    return violation.field, violation.description


def test_every_field_of_a_config_can_be_changed() -> None:
    in_mask = {path.removeprefix("config.") for path in NEW if "." in path}
    assert in_mask == set(asdict(STORED.config)) == set(session_pb2.SessionConfig.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("path", NEW)
def test_a_path_changes_its_field_and_no_other(path: str) -> None:
    assert changed(everything_new(), path) == with_new(path) != STORED


def test_several_paths_change_what_they_name() -> None:
    paths = ["goal", "config.tools", "goal", "config.max_turns"]
    assert changed(everything_new(), *paths) == with_new(*paths)


def test_config_means_all_of_it() -> None:
    of_config = [path for path in NEW if path.startswith("config.")]
    assert changed(everything_new(), "config") == with_new(*of_config)
    assert changed(proto(config={}), "config").config == SessionConfig("local")
    assert changed(proto(), "config").config == SessionConfig("local")


def test_a_star_means_everything_that_can_be_changed() -> None:
    sent = everything_new()
    sent.MergeFrom(proto(state=3, revision=1, turn=9))
    assert changed(sent, "*") == with_new(*NEW)
    assert changed(proto(goal="Put it out."), "*") == replace(
        STORED, goal="Put it out.", display_name="", labels={}, config=SessionConfig("local")
    )


def test_without_a_mask_what_is_set_is_changed() -> None:
    sent = proto(goal="Put it out.", config={"tools": ["note", "wait"]})
    assert changed(sent) == with_new("goal", "config.tools")
    populated = [path for path, (value, _) in NEW.items() if value]
    assert changed(everything_new()) == with_new(*populated)


def test_a_session_that_is_sent_back_as_it_was_read_changes_nothing() -> None:
    stored = replace(
        STORED, config=replace(STORED.config, model="demo", inner_voice_model="", tools=("now",))
    )
    assert changed(session_proto(stored), stored=stored) == stored


def test_emptied_fields_get_their_defaults() -> None:
    paths = [path for path in NEW if path != "goal"]
    assert changed(proto(), *paths) == replace(
        STORED, display_name="", labels={}, config=SessionConfig("local")
    )


@pytest.mark.parametrize("goal", ["", " \n"])
@pytest.mark.parametrize("path", ["goal", "*"])
def test_a_goal_is_not_emptied(goal: str, path: str) -> None:
    assert refused(proto(goal=goal), path) == ("session.goal", "is required")


def test_what_is_not_changed_is_not_checked() -> None:
    sent = proto(goal="Put it out.", display_name="a\nb", labels={"": ""}, config={"model": "gpt", "mode": 9})
    assert changed(sent, "goal") == with_new("goal")


@pytest.mark.parametrize(
    ("sent", "path", "field"),
    [
        (proto(goal="x" * 65), "goal", "session.goal"),
        (proto(display_name="a\nb"), "display_name", "session.display_name"),
        (proto(labels={"": "x"}), "labels", "session.labels.key"),
        (proto(config={"tools": ["now", "now"]}), "config.tools", "session.config.tools"),
        (proto(config={"mode": 3}), "config.mode", "session.config.mode"),
        (proto(config={"cooldown": Duration(seconds=-1)}), "config.cooldown", "session.config.cooldown"),
        (proto(config={"max_turns": -1}), "config", "session.config.max_turns"),
    ],
)
def test_what_is_changed_is_checked_as_for_a_new_session(
    sent: session_pb2.Session, path: str, field: str
) -> None:
    for paths in ([path], []):
        assert refused(sent, *paths)[0] == field


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        (proto(config={"model": "gpt"}), "config.model"),
        (proto(config={"inner_voice_model": "gpt"}), "config"),
        (proto(config={"tools": ["now", "rm"]}), "*"),
    ],
)
def test_a_model_or_tool_that_is_not_configured_is_refused(sent: session_pb2.Session, path: str) -> None:
    sent.goal = "Put it out."
    with pytest.raises(ConfigNotFound):
        changed(sent, path)


@pytest.mark.parametrize(
    "path", ["colour", "config.colour", "labels.team", "config.cooldown.seconds", "", "goal "]
)
def test_an_unknown_path_is_named(path: str) -> None:
    for paths in ([path], ["*", path], ["goal", path]):
        assert refused(everything_new(), *paths) == (
            "update_mask.paths",
            f"names {path!r}, which is no field of a session",
        )


@pytest.mark.parametrize(
    "path",
    sorted({*session_pb2.Session.DESCRIPTOR.fields_by_name, "usage.input_tokens"} - {"config"} - set(NEW)),
)
def test_a_path_of_an_output_only_field_is_refused_as_such(path: str) -> None:
    assert refused(everything_new(), "goal", path) == (
        "update_mask.paths",
        f"names {path!r}, which is output only",
    )


@pytest.mark.parametrize("path", ["x" * 201, "a\0b"])
def test_a_path_that_cannot_be_shown_is_not_echoed(path: str) -> None:
    field, description = refused(everything_new(), path)
    assert field == "update_mask.paths"
    assert path not in description


@pytest.mark.parametrize("sent", [proto(), proto(config={}), proto(state=2, revision=5)])
def test_a_request_that_names_nothing_and_sets_nothing_is_refused(sent: session_pb2.Session) -> None:
    assert refused(sent)[0] == "update_mask"
