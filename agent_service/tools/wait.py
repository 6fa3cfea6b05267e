"""The tool `wait`, with which a model sleeps instead of asking again and again."""

from agent_service.domain import JsonObject
from agent_service.model import ToolSpec
from agent_service.tools.protocol import ToolContext, ToolOutcome, Traits

MAX_SECONDS = 7 * 24 * 60 * 60


class Wait:
    """Asks to sleep. The loop takes a valid call as the wait and answers it, at most one of a reply; the
    tool itself is run only for the calls that the loop did not take."""

    traits = Traits(repeatable=True)
    spec = ToolSpec(
        "wait",
        "Sleeps until the time is up or a message from outside arrives. "
        "Use it to wait for something rather than asking for it again and again.",
        {
            "type": "object",
            "properties": {
                "seconds": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": MAX_SECONDS,
                    "description": "How long to sleep at most; 604800 is 7 days",
                },
                "reason": {"type": "string", "description": "What is waited for"},
            },
            "required": ["seconds"],
        },
    )

    def seconds(self, arguments: JsonObject) -> float:
        """How long a call asks to wait. Raises ValueError, in words for the model, where it is not valid."""
        asked = arguments.get("seconds")
        if isinstance(asked, bool) or not isinstance(asked, int | float) or not 0 < asked <= MAX_SECONDS:
            raise ValueError(f"seconds must be a number greater than 0 and at most {MAX_SECONDS} (7 days)")
        if not isinstance(arguments.get("reason", ""), str):
            raise ValueError("reason must be a string")
        return float(asked)

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        try:
            self.seconds(arguments)
        except ValueError as error:
            return ToolOutcome(str(error), is_error=True)
        return ToolOutcome("Only one wait at a time.", is_error=True)
