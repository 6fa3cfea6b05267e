"""Bugs of the product, each a patch that says in its head what it breaks and how that comes out soonest.

They are planted into a copy. `git apply` takes a patch only where its context is as it was when it was made.
"""

import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path

from tests.torture.plan import Kind

PRODUCT = Path(__file__).parents[3]
PACKAGES = ("agent_service", "gateway")
BUGS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.patch"))}


@dataclass(frozen=True)
class Bug:
    patch: Path
    # The invariants that it breaks, by their numbers: one of them at least.
    breaks: frozenset[int]
    # What is befallen by what, and how many sessions there are.
    kinds: Collection[Kind]
    lines: str
    sessions: int

    def plant(self, directory: Path) -> None:
        """Make a copy of the product that has it. Raises CalledProcessError where the patch does not fit."""
        without = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(PRODUCT / package, directory / package, ignore=without)
        # The copy may lie in a repository, whose files are not meant.
        environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(directory.parent)}
        subprocess.run(["git", "apply", str(self.patch)], cwd=directory, env=environment, check=True)


def read(patch: Path) -> Bug:
    """Raises ValueError where something of the head is wrong, and KeyError where it is not there."""
    head = dict(message_from_string(patch.read_text()))
    kinds = tuple(map(Kind, head["Kinds"].split()))
    breaks = frozenset(map(int, head["Breaks"].split()))
    return Bug(patch, breaks, kinds, head.get("Lines", ""), int(head["Sessions"]))
