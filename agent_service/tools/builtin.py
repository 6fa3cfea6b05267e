"""The tools that agents have unless they are told otherwise."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent_service.domain import JsonObject
from agent_service.model import ToolSpec
from agent_service.tools.protocol import Tool, ToolContext, ToolOutcome, Traits
from agent_service.tools.wait import Wait

NOTE = "note"


class Now:
    """Tells the time."""

    traits = Traits(repeatable=True)
    spec = ToolSpec(
        "now",
        "Tells the date and the time.",
        {
            "type": "object",
            "properties": {"tz": {"type": "string", "description": "IANA time zone, UTC if left out"}},
        },
    )

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        name = arguments.get("tz", "UTC")
        try:
            zone = ZoneInfo(name) if isinstance(name, str) else None
        except (ValueError, OSError, ZoneInfoNotFoundError):
            zone = None
        if zone is None:
            return ToolOutcome(f"{name!r} is not a time zone", is_error=True)
        return ToolOutcome(datetime.now(UTC).astimezone(zone).isoformat(timespec="seconds"))


class Note:
    """Takes a note. The call itself is the note: it stays in the transcript."""

    traits = Traits(repeatable=True)
    spec = ToolSpec(
        NOTE,
        "Writes down something worth remembering for a long time.",
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    )

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        text = arguments.get("text")
        if not isinstance(text, str) or not text.strip():
            return ToolOutcome("text must be a string that says something", is_error=True)
        return ToolOutcome("Noted.")


def builtin_tools() -> tuple[Tool, ...]:
    return Now(), Wait(), Note()
