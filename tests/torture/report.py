"""What a run has come to, for people: a page and, where matplotlib is installed, a picture."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles


@dataclass(frozen=True)
class Span:
    """A fault, in seconds since the beginning of the run."""

    kind: str
    target: str
    begin: float
    end: float


@dataclass(frozen=True)
class Wait:
    """From a post to when it was seen, by when it was posted in the run."""

    posted: float
    seconds: float


@dataclass(frozen=True)
class Summary:
    run: dict
    # How long the run was, and when it became calm.
    calm: float
    end: float
    counts: dict[str, int]
    faults: Sequence[Span]
    waits: Sequence[Wait]
    # The longest time without any acknowledgement before it became calm.
    longest_gap: float


@dataclass(frozen=True)
class _Post:
    """One attempt."""

    at: float
    request_id: str
    acknowledged: bool


def summary(directory: Path) -> Summary:
    history = list(_lines(directory / "history.jsonl"))
    interrupts = [
        line["row"]
        for line in _lines(directory / "database.jsonl")
        if line.get("table") == "messages" and line["row"]["type"] == "system"
    ]
    run, start = history[0], history[0]["at"]
    told = {what: [line for line in history if line["what"] == what] for what in ("call", "fault", "asked")}
    posts = [post for line in told["call"] for post in _posts(line)]
    acknowledged = [post for post in posts if post.acknowledged]
    calm = next(line["at"] for line in history if line["what"] == "calm")
    seen = [row for row in interrupts if row["seen_at"]]
    counts = {
        "attempts to post": len(posts),
        "posts": len({post.request_id for post in posts}),
        "acknowledged": len({post.request_id for post in acknowledged}),
        "interrupts": len(interrupts),
        "delivered": sum(row["delivered_at"] is not None for row in interrupts),
        "seen": len(seen),
        "settled": sum(row["settled_at"] is not None for row in interrupts),
        "model requests": len(told["asked"]),
    }
    return Summary(
        run,
        calm - start,
        history[-1]["at"] - start,
        counts,
        [
            Span(line["kind"], line["target"], line["began"] - start, line["at"] - start)
            for line in told["fault"]
        ],
        [_wait(row, start) for row in seen],
        max((after.at - before.at for before, after in pairwise(acknowledged)), default=0),
    )


def markdown(told: Summary, judgement: str, picture: str | None) -> str:
    kinds = Counter(fault.kind for fault in told.faults)
    waits = [wait.seconds for wait in told.waits] or [0.0]
    late = quantiles(waits, n=100)[98] if len(waits) > 1 else waits[0]
    parts = [
        f"# Torture, seed {told.run['seed']}, {told.run['seconds']:g} seconds",
        _table({name: f"{count:,}" for name, count in told.counts.items()}),
        _table(
            {
                "post to seen, median": f"{median(waits):.2f} s",
                "post to seen, 99 of 100": f"{late:.2f} s",
                "post to seen, longest": f"{max(waits):.2f} s",
                "longest gap between acknowledgements": f"{told.longest_gap:.2f} s",
            }
        ),
        _table({f"fault: {kind}": str(count) for kind, count in sorted(kinds.items())}),
        f"![Faults above, from post to seen below]({picture})" if picture else "",
        f"```\n{judgement.strip()}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _posts(call: dict) -> Iterator[_Post]:
    match call:
        case {"method": "PostInterrupt", "request": {"request_id": request_id}}:
            yield _Post(call["at"], request_id, bool(call["answer"]))
        case {"method": "DepositInterrupts", "request": {"deposits": [{"request_id": request_id}]}}:
            results = (call["answer"] or {}).get("results", ())
            yield _Post(call["at"], request_id, any("interrupt" in result for result in results))


def _wait(row: dict, start: float) -> Wait:
    posted, seen = (datetime.fromisoformat(row[name]).timestamp() for name in ("posted_at", "seen_at"))
    return Wait(posted - start, seen - posted)


def _lines(path: Path) -> Iterator[dict]:
    with path.open() as file:
        yield from map(json.loads, file)
