"""The checker finds nothing wrong with a right run, and each thing that is planted."""

from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import Postgres
from tests.torture import plants
from tests.torture.checker.__main__ import main
from tests.torture.checker.checks import violations
from tests.torture.checker.reading import read
from tests.torture.lines import Lines
from tests.torture.recording import Recording, record

_PLANTS: dict[int, tuple[plants.Plant, ...]] = {
    1: (
        plants.an_acknowledged_post_is_lost,
        plants.an_acknowledged_post_says_something_else,
        plants.an_acknowledged_session_is_lost,
        plants.a_retry_becomes_another_interrupt,
        plants.a_retry_is_told_to_be_new,
        plants.a_retry_is_refused,
        plants.another_body_is_acknowledged,
        plants.the_same_body_is_called_another,
        plants.a_client_is_told_what_is_not_so,
        plants.a_client_is_told_of_an_earlier_state,
    ),
    2: (
        plants.a_fact_is_told_at_another_revision,
        plants.an_interrupt_of_the_next_turn_is_delivered_in_a_round,
        plants.a_delivery_gives_no_place,
        plants.a_portion_says_that_more_wait_than_do,
        plants.two_interrupts_have_one_request_id,
    ),
    3: (plants.a_response_answers_another_call, plants.a_request_shows_a_call_without_its_response),
    4: (
        plants.a_position_is_left_out,
        plants.a_row_is_changed_after_it_was_sent,
        plants.a_request_leaves_an_interrupt_out,
        plants.a_request_begins_otherwise_than_the_one_before,
        plants.a_system_prompt_changes_within_a_turn,
        plants.the_tools_change_within_a_turn,
        plants.nobody_has_said_a_reply,
        plants.a_broken_reply_is_kept,
    ),
    5: (
        plants.an_interrupt_is_seen_at_its_delivery,
        plants.an_interrupt_is_seen_though_nothing_was_answered,
        plants.of_two_that_were_shown_one_is_seen_later,
        plants.an_interrupt_is_seen_after_its_answer,
    ),
    6: (
        plants.a_round_has_two_replies,
        plants.a_reply_is_from_an_attempt_that_was_given_up,
        plants.an_epoch_goes_down,
    ),
    7: (
        plants.a_revision_is_left_out,
        plants.a_stream_leaves_an_event_out,
        plants.a_stream_shows_an_event_twice,
        plants.a_stream_shows_an_event_otherwise,
        plants.an_event_tells_of_no_row,
        plants.an_event_shows_a_later_state,
        plants.a_watch_shows_a_state_twice,
        plants.a_list_leaves_a_row_out,
    ),
    8: (
        plants.an_outstanding_interrupt_is_not_counted,
        plants.an_interrupt_waits_too_long,
        plants.a_stream_falls_silent,
        plants.a_wait_ends_for_nothing,
    ),
    9: (
        plants.a_summary_covers_what_nobody_has_answered,
        plants.a_summary_does_not_list_an_interrupt,
        plants.a_summary_counts_more_than_it_covers,
    ),
    10: (
        plants.an_interrupt_is_cancelled_without_a_cause,
        plants.a_session_goes_on_after_its_end_was_told,
        plants.a_paused_session_goes_on,
        plants.an_ended_session_is_still_held,
    ),
    11: (
        plants.an_interrupt_has_another_source,
        plants.nobody_has_posted_an_interrupt,
        plants.a_row_of_the_inner_voice_is_from_somebody_else,
    ),
    12: (
        plants.the_inner_voice_does_not_see_an_interrupt,
        plants.a_turn_opens_with_what_nobody_said,
        plants.a_turn_opens_with_a_broken_reply,
        plants.a_disabled_inner_voice_speaks,
        plants.the_inner_voice_leaves_a_turn_out,
    ),
}

_BREAKS = [
    pytest.param(invariant, plant, id=f"{invariant}-{plant.__name__}")
    for invariant, planted in _PLANTS.items()
    for plant in planted
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return await record(postgres, tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def lines(recorded: Recording) -> Lines:
    return Lines(recorded)


def test_a_right_run_is_found_right(
    recorded: Recording, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    recorded.write(tmp_path)
    assert main(tmp_path) == 0, capsys.readouterr().out
    assert "violations: 0" in capsys.readouterr().out


@pytest.mark.parametrize(("invariant", "plant"), _BREAKS)
def test_what_is_broken_is_found_under_its_invariant(
    invariant: int, plant: plants.Plant, lines: Lines, tmp_path: Path
) -> None:
    plant(lines)
    lines.recording.write(tmp_path)
    assert {violation.invariant for violation in violations(read(tmp_path))} == {invariant}


def test_what_is_broken_is_printed_and_fails_the_run(
    lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lines.table("sessions", display_name="alpha")[0]["outstanding"] = 1
    lines.recording.write(tmp_path)
    assert main(tmp_path) == 1
    assert "invariant 8, alpha: outstanding says 1 (0 are)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("fault", "no fault of the kind model-down"),
        ("calm", "no time of calm, or no end"),
        ("opened", "no stream opened again"),
    ],
)
def test_a_run_in_which_something_never_happened_is_invalid(
    what: str, said: str, lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    streamed = ("opened", "got", "closed")
    lines.forget(lambda line: line["what"] in (streamed if what in streamed else (what,)))
    lines.recording.write(tmp_path)
    assert main(tmp_path) == 1
    assert f"invalid: {said}" in capsys.readouterr().out


def test_a_run_that_ends_while_something_waits_is_invalid(
    lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lines.row("alpha", "system", "Look north.")["seen_at"] = None
    lines.recording.write(tmp_path)
    assert main(tmp_path) == 1
    assert "invalid: the end of what waits in session alpha" in capsys.readouterr().out


def test_every_kind_of_fault_is_meant_unless_the_run_says_otherwise(
    lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    del lines.history[0]["kinds"]
    lines.recording.write(tmp_path)
    assert main(tmp_path) == 1
    assert "invalid: no fault of the kind failover" in capsys.readouterr().out


def test_a_line_that_nobody_agreed_upon_is_refused(lines: Lines, tmp_path: Path) -> None:
    lines.history.append({"what": "rumour", "at": 0})
    lines.recording.write(tmp_path)
    with pytest.raises(ValueError, match="rumour"):
        read(tmp_path)


def test_a_run_without_its_first_line_is_refused(lines: Lines, tmp_path: Path) -> None:
    lines.history.pop(0)
    lines.recording.write(tmp_path)
    with pytest.raises(ValueError, match="nothing of the run"):
        read(tmp_path)
