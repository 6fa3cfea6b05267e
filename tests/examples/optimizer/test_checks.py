"""The checks of the story find what they look for."""

from examples.optimizer.checks import Heard, checks
from spark.agent.v1.event_pb2 import Event, InterruptPosted, InterruptSeen
from spark.agent.v1.interrupt_pb2 import Interrupt, Notification


def news(kind: str, text: str = "", **data: float) -> Interrupt:
    notification = Notification(type=kind, subject="job-1", text=text)
    notification.data.update(data)
    return Interrupt(source="service:optimizer", notification=notification)


def posted(kind: str, **data: float) -> Event:
    return Event(interrupt_posted=InterruptPosted(interrupt=news(kind, **data)))


def seen(kind: str, text: str) -> Event:
    return Event(interrupt_seen=InterruptSeen(interrupt=news(kind, text)))


def missing(*events: Event) -> list[str]:
    heard = Heard()
    for event in events:
        heard.hear(event)
    return [what for what, is_so in checks(heard) if not is_so]


def test_a_story_in_which_nothing_happens_lacks_everything() -> None:
    assert len(missing()) == len(list(checks(Heard())))


def test_a_step_that_is_told_twice_is_found() -> None:
    steps = [posted("finetune.progress", step=step) for step in (1, 2)]
    assert "no step was told twice" not in missing(*steps)
    assert "no step was told twice" in missing(*steps, steps[-1])


def test_a_second_end_is_found() -> None:
    end = posted("finetune.finished", accuracy_before=0.3, accuracy_after=0.9)
    assert "finetune.finished was posted, delivered and seen, each once" in missing(end, end)


def test_a_failure_that_gives_no_reason_is_found() -> None:
    reason = "It failed: the examples have only one label, so there is nothing to tell apart."
    assert "it gave the reason" not in missing(seen("finetune.failed", reason))
    assert "it gave the reason" in missing(seen("finetune.failed", "It failed."))
