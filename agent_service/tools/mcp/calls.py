"""What a model says with a call as a server can read it, and what comes back as text for the model. Pure."""

import json
from typing import assert_never

from mcp import types

from agent_service.domain import Json, JsonObject
from agent_service.tools.protocol import ToolOutcome

NOTHING = "[nothing was returned]"
MAX_PROGRESS_CHARACTERS = 200


def sendable(own_name: str, arguments: JsonObject) -> dict[str, Json]:
    """The arguments, without the halves of characters that JSON can say and UTF-8 cannot. Raises ValueError
    for what the package does not send."""
    try:
        text = json.dumps(arguments, ensure_ascii=False).encode(errors="replace")
        params = types.CallToolRequestParams(name=own_name, arguments=json.loads(text))
        params.model_dump_json()
    except (ValueError, RecursionError):
        raise ValueError("the arguments are nested too deeply") from None
    return params.arguments or {}


def outcome(result: types.CallToolResult) -> ToolOutcome:
    """Nothing of a result is lost without a word."""
    parts = [_shown(block) for block in result.content]
    has_text = any(isinstance(block, types.TextContent) for block in result.content)
    if result.structured_content is not None and not has_text:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return ToolOutcome("\n".join(parts) or NOTHING, result.is_error)


def progress_words(progress: float, total: float | None, message: str | None) -> str:
    """How far a tool has come, in a line."""
    counted = f"{progress:g}" if total is None else f"{progress:g} of {total:g}"
    line = " ".join(f"{counted}: {message}".split()) if message else counted
    return line if len(line) <= MAX_PROGRESS_CHARACTERS else f"{line[: MAX_PROGRESS_CHARACTERS - 1]}…"


def _shown(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent():
            return _not_shown("image", block.mime_type, _bytes(block.data))
        case types.AudioContent():
            return _not_shown("audio", block.mime_type, _bytes(block.data))
        case types.ResourceLink():
            return _not_shown("resource", block.mime_type, block.uri)
        case types.EmbeddedResource(resource=types.TextResourceContents() as text):
            return f"[resource, {text.uri}]\n{text.text}"
        case types.EmbeddedResource(resource=types.BlobResourceContents() as blob):
            return _not_shown("resource", blob.mime_type, blob.uri, _bytes(blob.blob))
        case types.EmbeddedResource():
            return _not_shown("resource")
        case unreachable:
            assert_never(unreachable)


def _not_shown(*facts: str | None) -> str:
    return f"[{', '.join(fact for fact in facts if fact)}: not shown]"


def _bytes(base64: str) -> str:
    return f"{len(base64.rstrip('=')) * 3 // 4} bytes"
