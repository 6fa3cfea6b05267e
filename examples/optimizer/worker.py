"""Does the jobs: step by step, each step saved, so that a restart costs a step at most."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from examples.optimizer import news
from examples.optimizer.classifier import (
    Example,
    Model,
    Split,
    Untrainable,
    accuracy,
    split,
    trained,
    untrained,
)
from examples.optimizer.jobs import Failure, Figures, Job, Jobs, new_job
from examples.optimizer.notify import Notifier, Refused

STEPS = 6
_EPOCHS_A_STEP = 50
# After which news of progress is no news.
_PROGRESS_WORTH = timedelta(minutes=1)
# How long a step is held up to tell of it.
_PROGRESS_PATIENCE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Worker:
    """Jobs are done side by side, each by a task of its own."""

    def __init__(self, jobs: Jobs, notifier: Notifier, step_seconds: float, tasks: asyncio.TaskGroup) -> None:
        self._jobs, self._notifier, self._step_seconds, self._tasks = jobs, notifier, step_seconds, tasks
        self._running: set[asyncio.Task[None]] = set()

    def submit(self, session_id: str, examples: Sequence[Example]) -> Job:
        """Take a job, which is done in the background, or find it if it was given before."""
        job = new_job(session_id, examples)
        if known := self._jobs.find(job.job_id):
            return known
        self._jobs.save(job)
        self._begin(job)
        return job

    def resume(self) -> None:
        """Go on with every job whose agent does not know yet that it is over."""
        for job in self._jobs.all():
            if not job.told:
                self._begin(job)

    def stop(self) -> None:
        """Leave the jobs as they are. The next start goes on with them."""
        for task in self._running:
            task.cancel()

    def _begin(self, job: Job) -> None:
        task = self._tasks.create_task(self._do(job))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _do(self, job: Job) -> None:
        _log.info("%s is %s after step %d", job.job_id, job.state.value, job.step)
        outcome = job.outcome
        if not outcome:
            job, outcome = await self._brought_to_an_end(job)
            self._jobs.save(job)
        try:
            await self._notifier.post(news.over(job, outcome))
        except Refused as refused:
            _log.warning("%s: nobody can be told of it: %s", job.job_id, refused)
        self._jobs.save(replace(job, told=True))
        _log.info("%s is %s", job.job_id, job.state.value)

    async def _brought_to_an_end(self, job: Job) -> tuple[Job, Figures | Failure]:
        outcome: Figures | Failure
        try:
            job, outcome = await self._trained(job)
        except Untrainable as error:
            outcome = Failure(str(error))
        except Exception:
            # One job that cannot be done must not keep the others from being done, now and after each start.
            _log.exception("%s cannot be done", job.job_id)
            outcome = Failure("the optimizer cannot do this job")
        return replace(job, outcome=outcome), outcome

    async def _trained(self, job: Job) -> tuple[Job, Figures]:
        """The job after its last step, and what the model is worth. Raises Untrainable."""
        parts = split(job.examples)
        before = untrained(parts.training)
        after = job.model or before
        while job.step < STEPS:
            await asyncio.sleep(self._step_seconds)
            after = await asyncio.to_thread(trained, after, parts.training, _EPOCHS_A_STEP)
            job = replace(job, step=job.step + 1, model=after)
            self._jobs.save(job)
            if job.step < STEPS:
                await self._tell_progress(job)
        return job, _figures(before, after, parts)

    async def _tell_progress(self, job: Job) -> None:
        """What cannot be told soon is left to the next one, which would replace it anyway."""
        request = news.progress(job, STEPS, datetime.now(UTC) + _PROGRESS_WORTH)
        with suppress(TimeoutError, Refused):
            async with asyncio.timeout(_PROGRESS_PATIENCE_SECONDS):
                await self._notifier.post(request)


def _figures(before: Model, after: Model, parts: Split) -> Figures:
    return Figures(
        accuracy_before=accuracy(before, parts.held_back),
        accuracy_after=accuracy(after, parts.held_back),
        trained_on=len(parts.training),
        measured_on=len(parts.held_back),
    )


@asynccontextmanager
async def working(jobs: Jobs, notifier: Notifier, step_seconds: float) -> AsyncIterator[Worker]:
    """A worker that goes on with the jobs of the last run, and takes new ones while the context is open. A
    step takes `step_seconds` at least, so that one can watch."""
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(jobs, notifier, step_seconds, tasks)
        worker.resume()
        try:
            yield worker
        finally:
            worker.stop()
