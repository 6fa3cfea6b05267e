"""What has to happen in the story, checked against the events of its session."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from examples.optimizer.entries import QUESTION
from examples.optimizer.news import SOURCE
from examples.optimizer.script import ASK, START, WAIT
from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt, InterruptState
from spark.agent.v1.message_pb2 import Message, MessageType

_REASON = "the examples have only one label"


@dataclass
class Heard:
    """The events so far, and what was seen beside them."""

    rows: list[Message] = field(default_factory=list)
    # By what they say of an interrupt, in order.
    posted: list[Interrupt] = field(default_factory=list)
    delivered: list[Interrupt] = field(default_factory=list)
    seen: list[Interrupt] = field(default_factory=list)
    settled: list[Interrupt] = field(default_factory=list)
    parked: bool = False

    def hear(self, event: Event) -> None:
        match event.WhichOneof("event"):
            case "message_appended":
                self.rows.append(event.message_appended.message)
            case "interrupt_posted":
                self.posted.append(event.interrupt_posted.interrupt)
            case "interrupt_delivered":
                self.delivered.append(event.interrupt_delivered.interrupt)
            case "interrupt_seen":
                self.seen.append(event.interrupt_seen.interrupt)
            case "interrupt_settled":
                self.settled.append(event.interrupt_settled.interrupt)
            case _:
                pass

    @property
    def coalesced(self) -> bool:
        return any(one.state == InterruptState.INTERRUPT_STATE_SUPERSEDED for one in self.settled)

    def news(self, kind: str) -> list[list[Interrupt]]:
        """The notifications of a type that were posted, delivered and seen."""
        return [_of_type(ones, kind) for ones in (self.posted, self.delivered, self.seen)]

    def responses(self, tool: str) -> list[str]:
        return [row.tool_response.content for row in self.rows if row.tool_response.name == tool]


def checks(heard: Heard) -> Iterator[tuple[str, bool]]:
    """Each thing that has to be so, and whether it is."""
    failures, ends = heard.news("finetune.failed"), heard.news("finetune.finished")
    steps = [_figure(one, "step") for one in _of_type(heard.posted, "finetune.progress")]
    better = [_figure(one, "accuracy_after") > _figure(one, "accuracy_before") for one in ends[-1]]
    yield "the agent had a job id at once", heard.responses(START)[:1] == [f"{_subject(heard)} is queued"]
    yield (
        "finetune.failed was posted, delivered and seen, each once",
        [len(one) for one in failures] == [1] * 3,
    )
    yield "it gave the reason", [_REASON in one.notification.text for one in failures[-1]] == [True]
    yield "its session was parked while the job ran", heard.parked and bool(heard.responses(WAIT))
    yield "all news came from the optimizer", {one.source for one in heard.posted} == {SOURCE}
    yield "progress that nobody had read was replaced by newer progress", heard.coalesced
    yield "no step was told twice", len(steps) > 1 and steps == sorted(set(steps))
    yield "finetune.finished was posted, delivered and seen, each once", [len(one) for one in ends] == [1] * 3
    yield "the tuned model is better than the one before", better == [True]
    yield "the agent asked it, and its answer is right", _answered_rightly(heard.responses(ASK))
    yield "the agent used the answer", any(_is_conclusion(row) for row in heard.rows)


def _of_type(interrupts: list[Interrupt], kind: str) -> list[Interrupt]:
    return [one for one in interrupts if one.notification.type == kind]


def _figure(interrupt: Interrupt, name: str) -> float:
    return interrupt.notification.data.fields[name].number_value


def _subject(heard: Heard) -> str:
    return heard.posted[0].notification.subject if heard.posted else ""


def _answered_rightly(responses: list[str]) -> bool:
    return bool(responses) and responses[-1].startswith(f"{QUESTION.label} (")


def _is_conclusion(row: Message) -> bool:
    return row.type == MessageType.MESSAGE_TYPE_ASSISTANT and row.text.endswith(f"about: {QUESTION.label}.")
