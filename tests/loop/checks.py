"""What tests read of a transcript, and what every run of requests must keep to."""

from collections.abc import Sequence
from itertools import pairwise

from agent_service.domain import (
    JsonObject,
    SessionId,
)
from tests.support import Store


async def rows(store: Store, session_id: SessionId) -> list[tuple[str, str]]:
    """The transcript as types and words."""
    async with store.database.connection() as connection:
        found = await connection.fetch(
            "SELECT type, text, tool_name FROM messages "
            "WHERE session_id = $1 AND position IS NOT NULL ORDER BY position",
            session_id,
        )
    return [(row["type"], row["tool_name"] or row["text"]) for row in found]


def check_requests(sent: Sequence[Sequence[JsonObject]]) -> None:
    """Every request is paired, and grows only at its end."""
    for before, after in pairwise(sent):
        *head, last = before
        assert list(after[: len(head)]) == head
        assert str(after[len(head)]["content"]).startswith(str(last["content"]))
        assert {**after[len(head)], "content": ""} == {**last, "content": ""}
    for messages in sent:
        waiting: list[object] = []
        for message in messages:
            if message["role"] == "tool":
                waiting.remove(message["tool_call_id"])
            else:
                assert waiting == [], f"{message} stands between a call and its response"
                asked = message.get("tool_calls", ())
                assert isinstance(asked, (list, tuple))
                waiting = [call["id"] for call in asked]  # type: ignore[index,call-overload]
        assert waiting == []
