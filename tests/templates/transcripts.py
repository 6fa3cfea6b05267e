"""Transcripts of all kinds, made by chance, each up to a request in which some interrupts are new."""

import random
from dataclasses import replace

from agent_service.domain import MessageType, Text
from agent_service.loop import prompt
from agent_service.loop.compaction import covered_rows
from agent_service.loop.scenes import Scene, scene
from agent_service.store.transcript import Handled

# A word as those of scenes, and of none of them.
_OF_THE_SUMMARY = "Zqjjjjqz"


def transcripts(seed: str, count: int) -> list[Scene]:
    """Of up to four turns, with one, several and parallel calls, interrupts in a row, before the first answer
    and while there is nothing to do, also after a compaction. A restart leaves no other rows: a call that was
    lost has its response, and what came meanwhile stands in a row."""
    chance = random.Random(seed)
    return [_compacted(scene("", " ".join(_steps(chance))), chance) for _ in range(count)]


def _steps(chance: random.Random) -> list[str]:
    steps: list[str] = []
    for turn in range(chance.randint(1, 4)):
        if turn:
            steps.append("answer")
        steps += [*_interrupts(chance), "user", *_interrupts(chance)]
        for _ in range(chance.randint(0, 3)):
            steps += [chance.choice(["call", "call", "calls", "words+call"]), *_interrupts(chance)]
    if "interrupt" not in steps:
        return _steps(chance)
    # Those of one safe point have nothing between them.
    first = chance.choice([n for n, step in enumerate(steps) if step == "interrupt"])
    while first and steps[first - 1] == "interrupt":
        first -= 1
    while first < len(steps) and steps[first] == "interrupt":
        steps[first] = "NEWS"
        first += 1
    return steps


def _interrupts(chance: random.Random) -> list[str]:
    return ["interrupt"] * chance.choice([0, 0, 1, 2])


def _compacted(told: Scene, chance: random.Random) -> Scene:
    """A third of them: a summary stands for what could be covered at some moment before the news."""
    covered = covered_rows(told.rows[: chance.randint(0, told.begin)]) if chance.random() < 0.3 else 0
    if not covered:
        return told
    said = prompt.summary(f"I looked at the {_OF_THE_SUMMARY}.", Handled(0, ()))
    summary = replace(told.rows[0], type=MessageType.SUMMARY, content=Text(said))
    rows, gone = (summary, *told.rows[covered:]), covered - 1
    return replace(told, rows=rows, begin=told.begin - gone, end=told.end - gone)
