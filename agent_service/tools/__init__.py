"""Tools: what an agent can do."""

from agent_service.tools.builtin import NOTE
from agent_service.tools.protocol import Tool, ToolContext, ToolOutcome, Traits
from agent_service.tools.toolbox import Toolbox

__all__ = ["NOTE", "Tool", "ToolContext", "ToolOutcome", "Toolbox", "Traits"]
