import re

from agent_service.domain import ToolCall, Usage
from agent_service.model import Chunk, ReplyFold, ToolCallPiece
from agent_service.model.protocol import UNNAMED


def folded(*chunks: Chunk) -> ReplyFold:
    fold = ReplyFold()
    for chunk in chunks:
        fold.add(chunk)
    return fold


def test_chunks_add_up_to_a_reply() -> None:
    reply = folded(
        Chunk(reasoning="H"),
        Chunk(text="Ye", reasoning="m"),
        Chunk(text="s", usage=Usage(1, 0, 1)),
        Chunk(usage=Usage(3, 2, 2), begun=False),
    ).reply()
    assert (reply.text, reply.reasoning, reply.tool_calls) == ("Yes", "Hm", ())
    assert reply.usage == Usage(3, 2, 2)


def test_calls_stand_in_the_order_of_their_indexes() -> None:
    reply = folded(
        Chunk(tool_calls=(ToolCallPiece(1, "b", "note"),)),
        Chunk(tool_calls=(ToolCallPiece(0, "a", "now"), ToolCallPiece(1, arguments="[1]"))),
    ).reply()
    assert reply.tool_calls == (ToolCall("a", "now", "{}"), ToolCall("b", "note", "[1]"))


def test_every_call_has_an_id_of_its_own() -> None:
    pieces = (ToolCallPiece(0, "", "now"), ToolCallPiece(1, "x", "now"), ToolCallPiece(2, "x", "now"))
    ids = {call.call_id for call in folded(Chunk(tool_calls=pieces)).reply().tool_calls}
    assert len(ids) == 3
    assert all(re.fullmatch("x|[a-z0-9]{9}", call_id) for call_id in ids)


def test_a_call_without_a_name_has_one_that_servers_take() -> None:
    [call] = folded(Chunk(tool_calls=(ToolCallPiece(0, "a", arguments="{}"),))).reply().tool_calls
    assert call == ToolCall("a", UNNAMED, "{}")


def test_a_call_of_which_nothing_came_is_none() -> None:
    assert folded(Chunk(tool_calls=(ToolCallPiece(0, "a"), ToolCallPiece(1)))).reply().tool_calls == ()
