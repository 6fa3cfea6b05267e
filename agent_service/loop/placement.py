"""Where an interrupt goes in a request. Pure.

An interrupt is placed when it is delivered and stays where it was sent: requests only grow at their end.
"""

from typing import assert_never

from agent_service.domain import Json, Placement


def place(messages: list[dict[str, Json]], placement: Placement, text: str) -> None:
    """Put the text of an interrupt at the end of the messages, of which the first is the system prompt."""
    match placement:
        case Placement.SYSTEM:
            extend(messages, "system", text)
        case unreachable:
            assert_never(unreachable)


def extend(messages: list[dict[str, Json]], role: str, text: str) -> None:
    """Say something in a role: neighbours of one role are joined, which some chat templates insist on."""
    last = messages[-1]
    if len(messages) > 1 and last["role"] == role:
        last["content"] = f"{last['content']}\n\n{text}"
    else:
        messages.append({"role": role, "content": text})
