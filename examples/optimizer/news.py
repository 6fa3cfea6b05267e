"""What an agent is told of its job. Pure: the same job makes the same words, whoever says them again."""

from dataclasses import asdict
from datetime import datetime
from typing import assert_never

from examples.optimizer.jobs import Failure, Figures, Job
from spark.agent.v1.interrupt_pb2 import Interrupt, Notification
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest

SOURCE = "service:optimizer"


def progress(job: Job, steps: int, expire_time: datetime) -> PostInterruptRequest:
    """How far a job is: worth nothing after its time, and nothing when the next one is there."""
    notification = Notification(
        type="finetune.progress", subject=job.job_id, text=f"Step {job.step} of {steps} is done."
    )
    notification.data.update({"step": job.step, "steps": steps})
    interrupt = Interrupt(coalesce_key=job.job_id, notification=notification)
    interrupt.expire_time.FromDatetime(expire_time)
    return _request(job, interrupt, f"progress-{job.step}")


def over(job: Job, outcome: Figures | Failure) -> PostInterruptRequest:
    """It replaces what the agent has not yet been shown of the progress."""
    match outcome:
        case Figures():
            notification = Notification(
                type="finetune.finished",
                subject=job.job_id,
                text=f"The model is ready. Ask it with the tool ask_tuned and the job id {job.job_id}.",
            )
            notification.data.update(asdict(outcome))
        case Failure(reason):
            notification = Notification(
                type="finetune.failed", subject=job.job_id, text=f"It failed: {reason}."
            )
        case unreachable:
            assert_never(unreachable)
    return _request(job, Interrupt(coalesce_key=job.job_id, notification=notification), "over")


def _request(job: Job, interrupt: Interrupt, what: str) -> PostInterruptRequest:
    interrupt.session_id, interrupt.source = job.session_id, SOURCE
    return PostInterruptRequest(interrupt=interrupt, request_id=f"{job.job_id}-{what}")
