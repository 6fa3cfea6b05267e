"""Models: what writes the next words. One protocol, several kinds of servers behind it."""

from agent_service.model.protocol import (
    INNER_VOICE_MARK,
    SUMMARY_MARK,
    Chunk,
    Model,
    ModelError,
    Reply,
    ReplyFold,
    Request,
    Served,
    ToolCallPiece,
    ToolSpec,
)

__all__ = [
    "INNER_VOICE_MARK",
    "SUMMARY_MARK",
    "Chunk",
    "Model",
    "ModelError",
    "Reply",
    "ReplyFold",
    "Request",
    "Served",
    "ToolCallPiece",
    "ToolSpec",
]
