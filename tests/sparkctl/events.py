"""The events of a session, made in a line each."""

from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt

SESSION = "0199c0de-0000-7000-8000-000000000001"
INTERRUPT = "0199c0de-0000-7000-8000-0000000000aa"

_TWO_O_CLOCK_SECONDS = 1_767_232_800


def at(seconds: int) -> Timestamp:
    """A moment so many seconds after 02:00:00 UTC."""
    return Timestamp(seconds=_TWO_O_CLOCK_SECONDS + seconds)


class Script(list[Event]):
    """Events in order. The event of revision n happens n seconds after two o'clock."""

    def add(self, **happening: object) -> "Script":
        revision = len(self) + 1
        self.append(Event(revision=revision, create_time=at(revision), **happening))
        return self

    def session(self, state: str = "ACTIVE", reason: str = "", **fields: object) -> "Script":
        session = {
            "session_id": SESSION,
            "display_name": "lighthouse",
            "goal": "Keep the lamp.",
            "state": f"SESSION_STATE_{state}",
            "state_reason": reason,
            **fields,
        }
        return self.add(session_changed={"session": session})

    def turn(self, turn: int = 1) -> "Script":
        return self.add(turn_started={"turn": turn})

    def turn_ended(self, turn: int = 1) -> "Script":
        return self.add(turn_ended={"turn": turn, "reason": "TURN_END_ANSWERED"})

    def round(self, round_: int = 1, attempt: int = 1) -> "Script":
        return self.add(round_started={"turn": 1, "round": round_, "attempt": attempt})

    def failed(self, round_: int = 1, attempt: int = 1, reason: str = "MODEL_UNAVAILABLE") -> "Script":
        failed = {"turn": 1, "round": round_, "attempt": attempt, "reason": f"ROUND_FAILURE_{reason}"}
        return self.add(round_failed=failed)

    def voice(self, text: str) -> "Script":
        return self._message("USER", 0, source="inner_voice", text=text)

    def says(self, text: str, round_: int = 1, reasoning: str = "") -> "Script":
        return self._message("ASSISTANT", round_, text=text, reasoning=reasoning)

    def calls(self, name: str, arguments_json: str = "{}", call_id: str = "c1", round_: int = 1) -> "Script":
        call = {"call_id": call_id, "name": name, "arguments_json": arguments_json}
        return self._message("TOOL_CALL", round_, tool_call=call)

    def starts(self, name: str, call_id: str = "c1", round_: int = 1) -> "Script":
        return self.add(tool_call_started={"turn": 1, "round": round_, "call_id": call_id, "name": name})

    def responds(
        self, name: str, content: str, call_id: str = "c1", round_: int = 1, is_error: bool = False
    ) -> "Script":
        response = {"call_id": call_id, "name": name, "content": content, "is_error": is_error}
        return self._message("TOOL_RESPONSE", round_, tool_response=response)

    def interrupt(self, fact: str, interrupt: Interrupt) -> "Script":
        """`fact` is posted, delivered, seen or settled."""
        return self.add(**{f"interrupt_{fact}": {"interrupt": interrupt}})

    def _message(self, type_: str, round_: int, **content: object) -> "Script":
        message = {"type": f"MESSAGE_TYPE_{type_}", "turn": 1, "round": round_, **content}
        return self.add(message_appended={"message": message})


def delta(text: str, offset: int = 0, round_: int = 1, attempt: int = 1, kind: str = "TEXT") -> Event:
    """A piece of what the agent writes, in round 0 the inner voice."""
    return Event(
        text_delta={
            "turn": 1,
            "round": round_,
            "attempt": attempt,
            "speaker": "SPEAKER_ASSISTANT" if round_ else "SPEAKER_INNER_VOICE",
            "kind": f"DELTA_KIND_{kind}",
            "offset": offset,
            "text": text,
        }
    )


def nudge(state: str = "PENDING", text: str = "Watch the trawler.") -> Interrupt:
    """A nudge posted at second 10, delivered at 12, seen at 13 or settled at 14."""
    times = {"create_time": at(10)}
    if state in ("DELIVERED", "SEEN"):
        times["deliver_time"] = at(12)
    if state == "SEEN":
        times["seen_time"] = at(13)
    if state in ("CANCELLED", "EXPIRED", "SUPERSEDED"):
        times["settle_time"] = at(14)
    return Interrupt(
        interrupt_id=INTERRUPT,
        session_id=SESSION,
        source="operator",
        state=f"INTERRUPT_STATE_{state}",
        nudge={"text": text},
        **times,
    )
