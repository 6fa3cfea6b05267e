"""Tools: what an agent can do."""

from agent_service.tools.protocol import Tool, ToolOutcome
from agent_service.tools.toolbox import Toolbox

__all__ = ["Tool", "ToolOutcome", "Toolbox"]
