from dataclasses import replace
from pathlib import Path

from examples.optimizer.classifier import Example, untrained
from examples.optimizer.jobs import Failure, Figures, Jobs, JobState, new_job

EXAMPLES = [Example("to the north", "wind"), Example("under sail — é", "ship")]


def test_a_job_is_read_as_it_was_saved(tmp_path: Path) -> None:
    job = new_job("s1", EXAMPLES)
    saved = [
        job,
        replace(job, job_id="job-2", step=2, model=untrained(EXAMPLES)),
        replace(job, job_id="job-3", outcome=Figures(1 / 3, 0.9, 30, 10), told=True),
        replace(job, job_id="job-4", outcome=Failure("too few examples")),
    ]
    for one in saved:
        Jobs(tmp_path).save(one)
    assert {one.job_id: one for one in Jobs(tmp_path).all()} == {one.job_id: one for one in saved}
    states = [Jobs(tmp_path).find(one.job_id).state for one in saved]
    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.FINISHED, JobState.FAILED]


def test_what_is_saved_again_replaces_what_was_there(tmp_path: Path) -> None:
    jobs, job = Jobs(tmp_path), new_job("s1", EXAMPLES)
    jobs.save(job)
    jobs.save(replace(job, step=1))
    assert [one.step for one in jobs.all()] == [1]


def test_a_job_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert Jobs(tmp_path).find("../job") is None


def test_a_draft_that_was_left_by_a_crash_is_no_job(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    (tmp_path / "job-1.draft").write_text('{"job_id": "jo')
    assert jobs.all() == []


def test_the_same_examples_of_the_same_agent_are_the_same_job() -> None:
    job = new_job("s1", EXAMPLES)
    assert new_job("s1", list(EXAMPLES)) == job
    assert len({job.job_id, new_job("s2", EXAMPLES).job_id, new_job("s1", EXAMPLES[:1]).job_id}) == 3
