"""What a run of a story has come to."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent_service.loop.agent import ORPHANED, WOKEN
from agent_service.model import INNER_VOICE_MARK
from tests.torture.crash.story import NAME
from tests.torture.lines import Lines

_ANSWERS = {ORPHANED: "as unknown", WOKEN: "as woken"}


@dataclass(frozen=True)
class Ending:
    """None is what is left to chance."""

    # How turns have ended.
    turns: str
    # Of the first turn: rounds with their attempts, and reasons of those that have failed.
    rounds: str | None
    # How often the inner voice and the agent have asked the model server.
    asked: tuple[int, int] | None
    # How often a tool was started, how often that of the MCP server was run, and how calls were answered.
    started: int
    ran: int
    answered: str
    # How many interrupts its model has seen, and how many of it another agent's.
    seen: int | None
    told: int = 0
    # The posts that were told to be known already.
    known: str | None = ""

    @classmethod
    def of(cls, lines: Lines) -> "Ending":
        events = lines.table("events", NAME)
        responses = lines.table("messages", NAME, type="tool_response")
        voice = lines.asked(NAME, INNER_VOICE_MARK)
        seen = [row for row in lines.table("messages", NAME) if row["seen_at"]]
        return cls(
            turns=" ".join(event["data"]["reason"] for event in events if event["type"] == "turn_ended"),
            rounds=" ".join(_rounds(events)),
            asked=(len(voice), len(lines.asked(NAME, "")) - len(voice)),
            started=sum(event["type"] == "tool_call_started" for event in events),
            ran=len(lines.told("ran")),
            answered=" ".join(_ANSWERS.get(row["text"], "by the tool") for row in responses),
            seen=len(seen),
            told=len([row for row in lines.table("messages", type="system") if _is_told(row)]),
            known=" ".join(_known(lines)),
        )

    def but_for_chance(self, other: "Ending") -> "Ending":
        """Without what another one leaves to chance."""
        return replace(self, **{name: None for name, value in vars(other).items() if value is None})


def _is_told(row: dict) -> bool:
    return row["source"].startswith("agent:") and row["seen_at"]


def _rounds(events: list[dict]) -> Iterator[str]:
    for event in events:
        told = event["data"]
        if event["type"] == "round_failed":
            yield told["reason"]
        elif event["type"] == "round_started" and told["turn"] == 1:
            yield f"{told['round']}.{told['attempt']}"


def _known(lines: Lines) -> Iterator[str]:
    for call in lines.told("call"):
        answer = call["answer"] or {}
        posts = call["request"].get("deposits", [call["request"]])
        for post, result in zip(posts, answer.get("results", [answer]), strict=False):
            if result.get("duplicate"):
                yield post["request_id"]
