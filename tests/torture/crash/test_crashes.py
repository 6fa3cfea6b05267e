"""Whoever is killed at whatever point: the next one goes on, and no invariant is broken."""

from pathlib import Path

import pytest

from tests.conftest import Postgres
from tests.e2e.databases import new_database
from tests.torture.checker.checks import violations
from tests.torture.checker.reading import read
from tests.torture.crash.cases import CASES, Case
from tests.torture.crash.ending import Ending
from tests.torture.crash.run import run
from tests.torture.lines import Lines
from tests.torture.recording import Recording


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_session_outlives_a_death_at(
    case: Case, postgres: Postgres, database_url: str, tmp_path: Path
) -> None:
    url = await new_database(postgres) if case.without_schema else database_url
    await run(case.plot, case.deaths, url, tmp_path)
    assert violations(read(tmp_path)) == []
    ending = Ending.of(Lines(Recording.read(tmp_path)))
    assert ending.but_for_chance(case.ending) == case.ending
