"""Sets of tools on their way out."""

from agent_service.rpc.convert import enums
from agent_service.rpc.convert.fields import timestamp
from agent_service.tools.tool_set import SetKind, SetState, Standing
from spark.agent.v1 import tool_pb2

# With as many sets as anybody has, an answer stays far below what clients take.
MAX_DESCRIPTION_LENGTH = 1000

_KIND_NUMBERS = enums.numbers(SetKind, tool_pb2.ToolSetKind.Value, "TOOL_SET_KIND")
_STATE_NUMBERS = enums.numbers(SetState, tool_pb2.ToolSetState.Value, "TOOL_SET_STATE")


def tool_set_proto(standing: Standing) -> tool_pb2.ToolSet:
    return tool_pb2.ToolSet(
        name=standing.name,
        kind=_KIND_NUMBERS[standing.kind],
        state=_STATE_NUMBERS[standing.state],
        state_time=timestamp(standing.since) if standing.since else None,
        detail=standing.detail,
        tools=[
            tool_pb2.Tool(
                name=offer.name,
                description=offer.description[:MAX_DESCRIPTION_LENGTH],
                left_out=offer.left_out,
            )
            for offer in standing.offers
        ],
    )
