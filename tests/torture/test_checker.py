"""The checker finds nothing wrong with a right run, and each thing that is planted."""

from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import Postgres
from tests.torture.checker.__main__ import main
from tests.torture.checker.checks import violations
from tests.torture.checker.reading import read
from tests.torture.lines import Lines
from tests.torture.plants import PLANTS, Plant
from tests.torture.recording import Recording, record

_BREAKS = [
    pytest.param(invariant, plant, id=f"{invariant}-{plant.__name__}")
    for invariant, plants in PLANTS.items()
    for plant in plants
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
    invariant: int, plant: Plant, lines: Lines, tmp_path: Path
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
