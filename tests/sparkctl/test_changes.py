from spark.agent.v1.session_pb2 import Session, SessionConfig
from sparkctl import changes


def test_what_differs_is_named_by_its_path():
    before = Session(
        goal="Keep the lamp.", labels={"team": "night"}, config={"model": "demo", "max_turns": 3}
    )
    after = Session(
        goal="Keep the lamp.", config={"model": "local", "max_turns": 3, "cooldown": {"seconds": 1}}
    )

    assert changes.between(before, before) == []
    assert changes.between(before, after) == ["labels", "config.model", "config.cooldown"]


def test_what_the_service_adds_to_a_session_is_no_change_of_it():
    assert changes.between(Session(revision=1, turn=1), Session(revision=2, turn=2)) == []


def test_limits_count_at_once_and_what_the_agent_is_told_from_the_next_turn_on():
    paths = ["goal", "labels", "config.disable_inner_voice", "config.max_rounds_per_turn"]

    assert changes.told(paths) == [
        "changed at once: labels, max rounds per turn",
        "changed from the next turn on: goal, inner voice",
    ]
    assert changes.told(["config.mode"]) == ["changed at once: mode"]


def test_every_field_of_the_configuration_counts_at_once_or_later():
    paths = [f"config.{field.name}" for field in SessionConfig.DESCRIPTOR.fields]

    assert changes.told(paths) == [
        "changed at once: mode, cooldown, max rounds per turn, max turns, token budget",
        "changed from the next turn on: model, inner voice model, tools, inner voice prompt, inner voice",
    ]
