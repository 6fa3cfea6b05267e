from agent_service.domain import DeltaKind, Place, Speaker, TextDelta, Usage
from agent_service.loop.deltas import Deltas
from agent_service.model import Chunk
from agent_service.model.protocol import ToolCallPiece


def pieces(deltas: Deltas, *chunks: Chunk) -> list[tuple[DeltaKind, int, str]]:
    return [(delta.kind, delta.offset, delta.text) for chunk in chunks for delta in deltas.of(chunk)]


def test_a_delta_says_who_writes_and_in_which_attempt() -> None:
    (delta,) = Deltas(Place(3, 2, 4), Speaker.INNER_VOICE).of(Chunk("Go on."))
    assert delta == TextDelta(3, 2, 4, Speaker.INNER_VOICE, DeltaKind.TEXT, 0, "Go on.")


def test_offsets_count_the_characters_of_each_kind() -> None:
    deltas = Deltas(Place(1, 1, 1), Speaker.ASSISTANT)
    assert pieces(
        deltas,
        Chunk(reasoning="Hm \N{GRINNING FACE}"),
        Chunk("Loo", reasoning="."),
        Chunk("k"),
        Chunk(reasoning="!"),
    ) == [
        (DeltaKind.REASONING, 0, "Hm \N{GRINNING FACE}"),
        (DeltaKind.REASONING, 4, "."),
        (DeltaKind.TEXT, 0, "Loo"),
        (DeltaKind.TEXT, 3, "k"),
        (DeltaKind.REASONING, 5, "!"),
    ]


def test_the_name_of_a_tool_is_shown_while_its_arguments_are_still_being_written() -> None:
    deltas = Deltas(Place(1, 1, 1), Speaker.ASSISTANT)
    assert pieces(
        deltas,
        Chunk(tool_calls=(ToolCallPiece(0, "a", "now"), ToolCallPiece(1, "b", "note"))),
        Chunk(tool_calls=(ToolCallPiece(1, arguments='{"text"'),)),
        Chunk("Noted."),
    ) == [(DeltaKind.TOOL_NAME, 0, "now"), (DeltaKind.TOOL_NAME, 1, "note"), (DeltaKind.TEXT, 0, "Noted.")]


def test_what_says_nothing_is_no_delta() -> None:
    assert (
        pieces(Deltas(Place(1, 1, 1), Speaker.ASSISTANT), Chunk(), Chunk(usage=Usage(1), begun=False)) == []
    )
