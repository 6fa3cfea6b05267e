"""What the tests of models share."""

from contextlib import aclosing

from agent_service.model import Chunk, Model, Reply, ReplyFold, Request, ToolSpec

NOW = ToolSpec(
    "now",
    "Tells the time.",
    {"type": "object", "properties": {"tz": {"type": "string"}}, "required": ["tz"]},
)
NOTE = ToolSpec(
    "note",
    "Writes into the log.",
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)


def saying(text: str, *tools: ToolSpec) -> Request:
    return Request(
        [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": text}], tools
    )


async def chunks_of(model: Model, request: Request) -> list[Chunk]:
    async with aclosing(model.stream(request)) as stream:
        return [chunk async for chunk in stream]


async def reply_of(model: Model, request: Request) -> Reply:
    fold = ReplyFold()
    for chunk in await chunks_of(model, request):
        fold.add(chunk)
    return fold.reply()
