"""The rows of a transcript as a person reads them."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import tzinfo
from typing import TypeAlias

from spark.agent.v1.agent_service_pb2 import ListMessagesRequest
from spark.agent.v1.interrupt_pb2 import Interrupt, InterruptState
from spark.agent.v1.message_pb2 import Message, MessageType, ToolCall, ToolResponse
from sparkctl.connections import AgentService
from sparkctl.rows import Row, Tone
from sparkctl.words import facts, speech, state, visible

# Makes a text fit to be shown, as `visible` or `cut` do. What the agent says is always whole.
Shorten: TypeAlias = Callable[[str], str]

_PAGE_SIZE = 200


async def listed(agent: AgentService, session_id: str) -> AsyncGenerator[Message]:
    """The transcript of a session, rows that a summary covers too."""
    request = ListMessagesRequest(session_id=session_id, page_size=_PAGE_SIZE)
    async for page in agent.pages(agent.stub.ListMessages, request):
        for message in page.messages:
            yield message


async def read(messages: AsyncIterator[Message], zone: tzinfo | None = None) -> AsyncGenerator[Row]:
    """A transcript whole, turn by turn."""
    turn = 0
    async for message in messages:
        # A summary belongs to the last turn that it stands for, and may be written in a later one.
        if message.turn != turn and message.type != MessageType.MESSAGE_TYPE_SUMMARY:
            turn = message.turn
            yield Row(Tone.RULE, "", f"turn {turn}")
        for row in rows(message, visible, zone):
            yield row


def rows(message: Message, shorten: Shorten, zone: tzinfo | None = None) -> list[Row]:
    return reasoning_rows(message, shorten) + _content_rows(message, shorten, zone)


def reasoning_rows(message: Message, shorten: Shorten) -> list[Row]:
    return [Row(Tone.REASONING, "reasoning", shorten(message.reasoning))] if message.reasoning else []


def call_row(call: ToolCall, shorten: Shorten) -> Row:
    return Row(Tone.TOOL, "tool", f"{visible(call.name)} {shorten(call.arguments_json)}".rstrip())


def _content_rows(message: Message, shorten: Shorten, zone: tzinfo | None) -> list[Row]:
    match message.type:
        case MessageType.MESSAGE_TYPE_TOOL_CALL:
            return [call_row(message.tool_call, shorten)]
        case MessageType.MESSAGE_TYPE_TOOL_RESPONSE:
            return [_response_row(message.tool_response, shorten)]
        case MessageType.MESSAGE_TYPE_SYSTEM:
            return [_interrupt_row(message.interrupt, zone)]
        case MessageType.MESSAGE_TYPE_USER:
            return [Row(Tone.INNER_VOICE, "inner voice", visible(message.text))]
        case MessageType.MESSAGE_TYPE_SUMMARY:
            covers = f"in place of what stands up to position {message.covers_through_position}"
            return [Row(Tone.QUIET, "summary", f"{covers}\n{visible(message.text)}")]
        case _:
            return [Row(Tone.AGENT, "agent", visible(message.text))] if message.text else []


def _response_row(response: ToolResponse, shorten: Shorten) -> Row:
    label, tone = ("error", Tone.PROBLEM) if response.is_error else ("response", Tone.TOOL)
    return Row(tone, label, f"{visible(response.name)}: {shorten(response.content)}")


def _interrupt_row(interrupt: Interrupt, zone: tzinfo | None) -> Row:
    known = ", ".join(facts(interrupt, zone))
    return Row(_tone(interrupt), state(interrupt), f"{visible(speech(interrupt))} ({known})")


def _tone(interrupt: Interrupt) -> Tone:
    match interrupt.state:
        case InterruptState.INTERRUPT_STATE_DELIVERED:
            return Tone.DELIVERED
        case InterruptState.INTERRUPT_STATE_SEEN:
            return Tone.SEEN
        case _:
            return Tone.SETTLED
