"""Jobs from their start to the end that their agent is told of, restarts between them included."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from examples.optimizer.classifier import Example, Model
from examples.optimizer.entries import EXAMPLES
from examples.optimizer.jobs import Failure, Figures, Job, Jobs, JobState, new_job
from examples.optimizer.notify import notifier
from examples.optimizer.worker import STEPS, Worker, working
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from tests.examples.optimizer.scripted_gateway import ScriptedGateway, running
from tests.gateway.conditions import until

NEVER_SECONDS = 3600


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


@asynccontextmanager
async def worker_of(jobs: Jobs, gateway: ScriptedGateway, step_seconds: float = 0) -> AsyncIterator[Worker]:
    async with (
        running(gateway) as address,
        notifier(address) as posts,
        working(jobs, posts, step_seconds) as worker,
    ):
        yield worker


async def done(jobs: Jobs, gateway: ScriptedGateway, examples: Sequence[Example]) -> Job:
    """A job of these examples, when it and all others are over."""
    async with worker_of(jobs, gateway) as worker:
        job_id = worker.submit("s1", examples).job_id
        await until(lambda: all(job.told for job in jobs.all()))
    return jobs.find(job_id)


def unavailable_for_ends(request: PostInterruptRequest) -> grpc.StatusCode | None:
    is_end = request.interrupt.notification.type == "finetune.finished"
    return grpc.StatusCode.UNAVAILABLE if is_end else None


async def test_a_job_is_taken_at_once_and_its_agent_is_told_of_the_end(jobs: Jobs) -> None:
    gateway = ScriptedGateway()
    async with worker_of(jobs, gateway) as worker:
        job = worker.submit("s1", EXAMPLES)
        assert job.state is JobState.QUEUED
        await until(lambda: jobs.find(job.job_id).told)
    *steps, end = gateway.posted.values()
    assert [post.interrupt.notification.data["step"] for post in steps] == list(range(1, STEPS))
    assert {post.interrupt.session_id for post in gateway.posted.values()} == {"s1"}
    assert end.interrupt.notification.type == "finetune.finished"
    figures = end.interrupt.notification.data
    assert (figures["trained_on"], figures["measured_on"]) == (33, 9)
    assert (
        figures["accuracy_before"] < figures["accuracy_after"] == jobs.find(job.job_id).outcome.accuracy_after
    )


async def test_news_of_a_job_replace_each_other_and_only_progress_expires(jobs: Jobs) -> None:
    gateway = ScriptedGateway()
    job = await done(jobs, gateway, EXAMPLES)
    interrupts = [post.interrupt for post in gateway.posted.values()]
    assert {one.coalesce_key for one in interrupts} == {job.job_id}
    assert {one.source for one in interrupts} == {"service:optimizer"}
    assert [one.HasField("expire_time") for one in interrupts] == [True] * (STEPS - 1) + [False]


async def test_a_job_from_which_nothing_can_be_learnt_fails_with_the_reason(jobs: Jobs) -> None:
    gateway = ScriptedGateway()
    job = await done(jobs, gateway, EXAMPLES[:4])
    [told] = gateway.posted.values()
    assert told.interrupt.notification.type == "finetune.failed"
    assert told.interrupt.notification.text.startswith("It failed: the examples have only one label")
    assert isinstance(job.outcome, Failure)


async def test_a_job_that_is_given_twice_is_done_once(jobs: Jobs) -> None:
    gateway = ScriptedGateway()
    first = await done(jobs, gateway, EXAMPLES)
    second = await done(jobs, gateway, EXAMPLES)
    assert first == second
    assert gateway.told.count("finetune.finished") == 1
    assert len(gateway.attempts) == STEPS


async def test_a_job_goes_on_after_a_restart_where_it_was(jobs: Jobs, tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    async with worker_of(jobs, gateway, step_seconds=0.05) as worker:
        job_id = worker.submit("s1", EXAMPLES).job_id
        await until(lambda: jobs.find(job_id).step >= 2)
    left_at = jobs.find(job_id)
    assert left_at.outcome is None
    async with worker_of(Jobs(tmp_path), gateway):
        await until(lambda: jobs.find(job_id).told)
    told = [post.interrupt.notification.data["step"] for post in list(gateway.posted.values())[:-1]]
    assert told == sorted(set(told))
    assert gateway.told[-1] == "finetune.finished"
    undisturbed = await done(Jobs(tmp_path / "undisturbed"), ScriptedGateway(), EXAMPLES)
    assert jobs.find(job_id) == undisturbed


async def test_an_end_that_nobody_acknowledged_is_told_after_the_restart_once(jobs: Jobs) -> None:
    gateway = ScriptedGateway()
    gateway.failure, gateway.keeps_what_it_fails = unavailable_for_ends, True
    async with worker_of(jobs, gateway) as worker:
        job_id = worker.submit("s1", EXAMPLES).job_id
        await until(lambda: "finetune.finished" in gateway.told)
    assert isinstance(jobs.find(job_id).outcome, Figures)
    assert not jobs.find(job_id).told
    gateway.failure = lambda request: None
    async with worker_of(jobs, gateway):
        await until(lambda: jobs.find(job_id).told)
    assert gateway.told.count("finetune.finished") == 1


async def test_a_job_whose_agent_has_ended_is_over_all_the_same(jobs: Jobs) -> None:
    gateway = ScriptedGateway()
    gateway.failure = lambda request: grpc.StatusCode.FAILED_PRECONDITION
    job = await done(jobs, gateway, EXAMPLES)
    assert (job.state, job.told) == (JobState.FINISHED, True)


async def test_a_worker_stops_in_the_middle_of_a_job(jobs: Jobs) -> None:
    async with worker_of(jobs, ScriptedGateway(), step_seconds=NEVER_SECONDS) as worker:
        worker.submit("s1", EXAMPLES)
    assert [job.state for job in jobs.all()] == [JobState.QUEUED]


async def test_a_job_that_cannot_be_done_fails_alone(jobs: Jobs) -> None:
    gateway = ScriptedGateway()
    broken = replace(new_job("s2", EXAMPLES), step=1, model=Model((), (), (), ()))
    jobs.save(broken)
    job = await done(jobs, gateway, EXAMPLES)
    assert job.state is JobState.FINISHED
    assert jobs.find(broken.job_id).outcome == Failure("the optimizer cannot do this job")
    assert gateway.told.count("finetune.failed") == 1
