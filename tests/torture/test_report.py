"""What people are told of a run is counted from what it left behind."""

import json
from collections.abc import Iterable
from pathlib import Path

from tests.torture.overview import overview
from tests.torture.report import Span, Wait, markdown, summary


def post(at: float, request_id: str, acknowledged: bool) -> dict:
    answer = {"interrupt": {}} if acknowledged else None
    return {
        "what": "call",
        "at": at,
        "method": "PostInterrupt",
        "request": {"request_id": request_id},
        "answer": answer,
    }


def interrupt(seen_at: str | None, settled_at: str | None) -> dict:
    row = {"type": "system", "posted_at": "1970-01-01T00:16:41Z", "delivered_at": seen_at, "seen_at": seen_at}
    return {"table": "messages", "row": row | {"settled_at": settled_at}}


HISTORY = [
    {"what": "run", "at": 1000.0, "seed": 7, "seconds": 30.0},
    post(1001, "a", acknowledged=False),
    post(1002, "a", acknowledged=True),
    post(1007, "b", acknowledged=True),
    post(1008, "c", acknowledged=False),
    {"what": "fault", "began": 1003.0, "at": 1004.0, "kind": "kill", "target": "agent-1"},
    {"what": "calm", "at": 1010.0},
    {"what": "end", "at": 1011.0},
]
ROWS = [
    interrupt("1970-01-01T00:16:44Z", None),
    interrupt(None, "1970-01-01T00:16:43Z"),
    {"table": "messages", "row": {"type": "user"}},
    {"list": "ListMessages"},
]


def left(directory: Path, name: str, lines: Iterable[dict]) -> None:
    (directory / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_a_run_is_summed_up(tmp_path: Path) -> None:
    left(tmp_path, "history.jsonl", HISTORY)
    left(tmp_path, "database.jsonl", ROWS)
    told = summary(tmp_path)
    assert told.counts == {
        "attempts to post": 4,
        "posts": 3,
        "acknowledged": 2,
        "interrupts": 2,
        "delivered": 1,
        "seen": 1,
        "settled": 1,
        "model requests": 0,
    }
    assert (told.calm, told.end, told.longest_gap) == (10, 11, 5)
    assert told.faults == [Span("kill", "agent-1", 3, 4)]
    assert told.waits == [Wait(1, 3)]


def test_the_page_says_what_was_done_and_how_it_is_judged(tmp_path: Path) -> None:
    left(tmp_path, "history.jsonl", HISTORY)
    left(tmp_path, "database.jsonl", ROWS)
    page = markdown(summary(tmp_path), "violations: 0\n", None)
    assert page.startswith("# Torture, seed 7, 30 seconds\n")
    for row in ("| acknowledged | 2 |", "| post to seen, longest | 3.00 s |", "| fault: kill | 1 |"):
        assert row in page
    assert page.endswith("```\nviolations: 0\n```\n")


def test_several_runs_are_a_table_with_what_they_come_to_together(tmp_path: Path) -> None:
    left(tmp_path, "history.jsonl", HISTORY)
    left(tmp_path, "database.jsonl", ROWS)
    told = summary(tmp_path)
    _, _, *lines = overview([(told, 0), (told, 2)]).splitlines()
    assert lines == [
        "| 7 | 30 | 1 | 4 | 2 | 1 | 1 | 1 | 0 | 3.00 s | 5.0 s | 0 |",
        "| 7 | 30 | 1 | 4 | 2 | 1 | 1 | 1 | 0 | 3.00 s | 5.0 s | 2 |",
        "| all | 60 | 2 | 8 | 4 | 2 | 2 | 2 | 0 |  | 5.0 s | 2 |",
    ]
