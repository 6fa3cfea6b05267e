"""Models: what writes the next words. One protocol, several kinds of servers behind it."""

from agent_service.model.protocol import (
    Chunk,
    Model,
    ModelError,
    Reply,
    ReplyFold,
    Request,
    ToolCallPiece,
    ToolSpec,
)

__all__ = ["Chunk", "Model", "ModelError", "Reply", "ReplyFold", "Request", "ToolCallPiece", "ToolSpec"]
