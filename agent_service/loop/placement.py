"""Where an interrupt goes in a request. Pure.

An interrupt is placed when it is delivered and stays where it was sent: requests only grow at their end.
"""

from dataclasses import replace
from typing import assert_never

from agent_service.domain import Interrupt, Json, Message, Placement


def place(messages: list[dict[str, Json]], placement: Placement, text: str) -> None:
    """Put the text of an interrupt at the end of the messages, of which the first is the system prompt. The
    responses to all calls are there."""
    match placement:
        case Placement.SYSTEM:
            extend(messages, "system", text)
        case Placement.TOOL if messages[-1]["role"] == "tool":
            extend(messages, "tool", text)
        case Placement.USER | Placement.TOOL | Placement.TEXT:
            extend(messages, "user", text)
        case unreachable:
            assert_never(unreachable)


def extend(messages: list[dict[str, Json]], role: str, text: str) -> None:
    """Say something in a role: neighbours of one role are joined, which some chat templates insist on. The
    system prompt is no neighbour; where it stands in the first message of the user, that one is."""
    last = messages[-1]
    if last["role"] == role and (len(messages) > 1 or role != "system"):
        last["content"] = f"{last['content']}\n\n{text}"
    else:
        messages.append({"role": role, "content": text})


def placed(row: Message, placement: Placement) -> Message:
    """The row, of an interrupt with another placement."""
    match row.content:
        case Interrupt() as interrupt:
            return replace(row, content=replace(interrupt, placement=placement))
        case _:
            return row
