import pytest
from mcp.types import CallToolResult, ImageContent, TextContent

from agent_service.domain import Json
from agent_service.tools.mcp.calls import MAX_PROGRESS_CHARACTERS, NOTHING, outcome, progress_words, sendable


def text(*words: str) -> list[TextContent]:
    return [TextContent(text=word) for word in words]


def test_texts_are_joined_by_line() -> None:
    assert outcome(CallToolResult(content=text("one", "two"))).content == "one\ntwo"


def test_an_error_is_an_error() -> None:
    assert outcome(CallToolResult(content=text("no"), is_error=True)).is_error


def test_structured_content_is_shown_where_there_is_no_text() -> None:
    structured = {"ships": 2}
    assert outcome(CallToolResult(content=[], structured_content=structured)).content == '{"ships": 2}'
    with_text = CallToolResult(content=text("two ships"), structured_content=structured)
    assert outcome(with_text).content == "two ships"
    picture = ImageContent(data="YWFhYQ==", mime_type="image/png")
    assert outcome(CallToolResult(content=[picture], structured_content=structured)).content == (
        '[image, image/png, 4 bytes: not shown]\n{"ships": 2}'
    )


def test_a_result_without_anything_says_so() -> None:
    assert outcome(CallToolResult(content=[])).content == NOTHING
    assert outcome(CallToolResult(content=text(""))).content == NOTHING


@pytest.mark.parametrize(
    ("progress", "total", "message", "said"),
    [
        (3, 10, "fetching", "3 of 10: fetching"),
        (0.5, 1, None, "0.5 of 1"),
        (3, None, "fetching", "3: fetching"),
        (3, None, None, "3"),
        (3, 10, "two\nlines\t", "3 of 10: two lines"),
    ],
)
def test_progress_is_a_line(progress: float, total: float | None, message: str | None, said: str) -> None:
    assert progress_words(progress, total, message) == said


def test_progress_is_short() -> None:
    said = progress_words(1, 2, "a" * 1000)
    assert (len(said), said[-1]) == (MAX_PROGRESS_CHARACTERS, "…")


@pytest.mark.parametrize("value", ["a", None, 1.5, True, [1, {"a": []}], {}, 10**400, "é\n\x00"])
def test_arguments_are_sent_as_they_are(value: Json) -> None:
    assert sendable("act", {"a": value}) == {"a": value}


def test_half_a_character_is_sent_as_a_question_mark() -> None:
    assert sendable("act", {"\ud83d": ["\ud83d"]}) == {"?": ["?"]}


@pytest.mark.parametrize("depth", [300, 100_000])
def test_arguments_that_are_nested_too_deeply_are_refused(depth: int) -> None:
    deep: list[Json] = []
    for _ in range(depth):
        deep = [deep]
    with pytest.raises(ValueError, match=r"^the arguments are nested too deeply$"):
        sendable("act", {"a": deep})
