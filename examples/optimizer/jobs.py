"""Jobs, and where they are kept: a file each, so that they outlive the process."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import assert_never

from pydantic import TypeAdapter

from examples.optimizer.classifier import Example, Model


class JobState(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model is worth, measured on examples that it has not seen."""

    accuracy_before: float
    accuracy_after: float
    trained_on: int
    measured_on: int


@dataclass(frozen=True, slots=True)
class Failure:
    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    job_id: str
    # Of the agent that gave it, which is told of it.
    session_id: str
    examples: tuple[Example, ...]
    # How many steps are done, and the model after them.
    step: int = 0
    model: Model | None = None
    # None until it is over.
    outcome: Figures | Failure | None = None
    # Its agent was told that it is over, or cannot be.
    told: bool = False

    @property
    def state(self) -> JobState:
        match self.outcome:
            case Figures():
                return JobState.FINISHED
            case Failure():
                return JobState.FAILED
            case None:
                return JobState.RUNNING if self.step else JobState.QUEUED
            case unreachable:
                assert_never(unreachable)


_JOB = TypeAdapter(Job)


def new_job(session_id: str, examples: Sequence[Example]) -> Job:
    """The same examples from the same agent are the same job: to ask twice does no harm."""
    job = Job("", session_id, tuple(examples))
    digest = hashlib.sha256(_JOB.dump_json(job)).hexdigest()
    return Job(f"job-{digest[:12]}", session_id, tuple(examples))


class Jobs:
    """What is saved is in its file, whole, before `save` returns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def save(self, job: Job) -> None:
        path = self._directory / f"{job.job_id}.json"
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(_JOB.dump_json(job))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def find(self, job_id: str) -> Job | None:
        return next((_read(path) for path in self._paths() if path.stem == job_id), None)

    def all(self) -> list[Job]:
        return [_read(path) for path in self._paths()]

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("*.json"))


def _read(path: Path) -> Job:
    return _JOB.validate_json(path.read_bytes())
