"""Bugs are planted into a copy of the product, each where the product still has what it changes."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.processes import running
from tests.torture.bugs.bug import BUGS, PRODUCT, read


def changed(directory: Path) -> list[Path]:
    """The files of a copy that are not as in the product."""
    files = (file.relative_to(directory) for file in directory.rglob("*.py"))
    return [file for file in files if (directory / file).read_text() != (PRODUCT / file).read_text()]


@pytest.mark.parametrize("name", BUGS)
def test_every_bug_fits_the_product(name: str, tmp_path: Path) -> None:
    read(BUGS[name]).plant(tmp_path)
    files = changed(tmp_path)
    assert files
    for file in files:
        compile((tmp_path / file).read_text(), file, "exec")


def test_a_bug_does_not_fit_where_the_product_has_changed(tmp_path: Path) -> None:
    patch = tmp_path / "other.patch"
    patch.write_text(BUGS["retry_refused"].read_text().replace("ledger = self", "book = self"))
    with pytest.raises(subprocess.CalledProcessError):
        read(patch).plant(tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("Breaks: 1", "Breaks: much"), ("Kinds: kill", "Kinds: rumour"), ("Sessions: 24", "")],
)
def test_a_bug_whose_head_says_nothing_is_refused(right: str, wrong: str, tmp_path: Path) -> None:
    patch = tmp_path / "other.patch"
    patch.write_text(BUGS["retry_refused"].read_text().replace(right, wrong))
    with pytest.raises((ValueError, KeyError)):
        read(patch)


async def test_a_service_runs_from_the_copy(tmp_path: Path) -> None:
    package = tmp_path / "gateway"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text('print("listening 127.0.0.1:7")')
    async with running("gateway", directory=tmp_path) as service:
        assert service.address == "127.0.0.1:7"
