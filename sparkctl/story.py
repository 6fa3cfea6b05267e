"""What has to happen to one nudge, checked against the events of its session."""

from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt
from spark.agent.v1.message_pb2 import Message, MessageType

_FACTS = ["pending", "delivered", "seen"]


class Story:
    """Hears the events in order. The nudge is pending, delivered and seen, each once, and then answered: the
    next reply of the agent, in its words or in a tool call, quotes it."""

    def __init__(self, nudge: Interrupt) -> None:
        self._id, self._text = nudge.interrupt_id, nudge.nudge.text
        self._facts: list[str] = []
        self._reply: tuple[int, int] | None = None
        self._answered = False

    def hear(self, event: Event) -> None:
        match event.WhichOneof("event"):
            case "interrupt_posted":
                self._note("pending", event.interrupt_posted.interrupt)
            case "interrupt_delivered":
                self._note("delivered", event.interrupt_delivered.interrupt)
            case "interrupt_seen":
                self._note("seen", event.interrupt_seen.interrupt)
            case "interrupt_settled":
                self._note("settled", event.interrupt_settled.interrupt)
            case "message_appended":
                self._read(event.message_appended.message)
            case _:
                pass

    @property
    def seen(self) -> bool:
        return "seen" in self._facts

    def missing(self) -> list[str]:
        """What has not happened as it should, in words. Empty: all is well."""
        missing = []
        if self._facts != _FACTS:
            came = ", ".join(self._facts) or "nothing"
            missing.append(f"the nudge should be {', '.join(_FACTS)}; what came was {came}")
        if not self._answered:
            missing.append("the agent's next reply does not mention the nudge")
        return missing

    def _note(self, fact: str, interrupt: Interrupt) -> None:
        if interrupt.interrupt_id == self._id:
            self._facts.append(fact)

    def _read(self, message: Message) -> None:
        of_agent = message.type in (MessageType.MESSAGE_TYPE_ASSISTANT, MessageType.MESSAGE_TYPE_TOOL_CALL)
        if not self.seen or not of_agent:
            return
        place = message.turn, message.round
        self._reply = self._reply or place
        said = message.text or message.tool_call.arguments_json
        if place == self._reply and self._text.lower() in said.lower():
            self._answered = True
