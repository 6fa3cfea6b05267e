"""`python -m tests.torture.bugs`: whether torture finds each bug of the product within a minute of faults.

The exit code is 1 where one of them broke nothing that it should have broken.
"""

import argparse
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.torture.bugs.bug import BUGS, Bug, read
from tests.torture.checker import reading
from tests.torture.checker.checks import violations

# A bug that is not found in one run may be in the next, with other faults.
RUNS, SECONDS = 3, 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.bugs", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the runs are left")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of bugs; all, if none is given")
    told = parser.parse_args()
    print("| bug | seconds of faults | violations, by invariant | |\n|---|---:|---|---|")
    found = [_is_found(name, told.out) for name in told.names or BUGS]
    return 0 if all(found) else 1


def _is_found(name: str, out: Path) -> bool:
    """Torture the product with the bug until it breaks what it should. Tells what came of it."""
    bug, broken, run = read(BUGS[name]), Counter[int](), 0
    while run < RUNS and bug.breaks.isdisjoint(broken):
        run += 1
        broken += _broken(bug, run, out / f"{name}-{run}")
    counts = ", ".join(f"{invariant}: {count}" for invariant, count in sorted(broken.items()))
    is_found = not bug.breaks.isdisjoint(broken)
    print(f"| {name} | {run * SECONDS} | {counts} | {'found' if is_found else 'NOT FOUND'} |", flush=True)
    return is_found


def _broken(bug: Bug, seed: int, directory: Path) -> Counter[int]:
    """How often each invariant is violated in a run."""
    shutil.rmtree(directory, ignore_errors=True)
    run = ("--seconds", str(SECONDS), "--seed", str(seed), "--out", str(directory))
    befalls = ("--sessions", str(bug.sessions), "--lines", bug.lines, "--kinds", *bug.kinds)
    command = (sys.executable, "-m", "tests.torture", "--bug", bug.patch.stem, *run, *befalls)
    subprocess.run(command, stdout=subprocess.DEVNULL)
    return Counter(violation.invariant for violation in violations(reading.read(directory)))


if __name__ == "__main__":
    sys.exit(main())
