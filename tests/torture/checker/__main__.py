"""`python -m tests.torture.checker DIR`: what a run has broken, and what it has come to.

The exit code is 1 where an invariant is broken, or where something that a run is for never happened in it.
"""

import sys
from collections import Counter
from pathlib import Path

from tests.torture.checker.checks import violations
from tests.torture.checker.evidence import Evidence
from tests.torture.checker.reading import read
from tests.torture.checker.validity import missing


def main(directory: Path) -> int:
    evidence = read(directory)
    found, never = violations(evidence), list(missing(evidence))
    for violation in found:
        print(violation)
    for what in never:
        print(f"invalid: {what}")
    for what, count in counts(evidence).items():
        print(f"{what}: {count}")
    print(f"violations: {len(found)}")
    return 1 if found or never else 0


def counts(evidence: Evidence) -> dict[str, int]:
    sessions = evidence.sessions
    posts = [post for session in sessions for post in session.posts]
    rows = [row for session in sessions for row in session.interrupts]
    faults = Counter(fault.kind for fault in evidence.faults)
    return {
        "sessions": len(sessions),
        "posts": len(posts),
        "acknowledged": sum(post.told is not None for post in posts),
        "interrupts": len(rows),
        "delivered": sum(row.delivered_at is not None for row in rows),
        "seen": sum(row.seen_at is not None for row in rows),
        "settled": sum(row.settled_at is not None for row in rows),
        "events": sum(len(session.events) for session in sessions),
        "streams": sum(len(session.streams) for session in sessions),
        "requests": sum(len(session.asked) for session in sessions),
        **{f"fault {kind}": count for kind, count in sorted(faults.items())},
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
