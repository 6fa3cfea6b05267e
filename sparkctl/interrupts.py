"""Interrupts from the outside: list, cancel."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from spark.agent.v1.agent_service_pb2 import ListInterruptsRequest
from spark.agent.v1.interrupt_pb2 import Interrupt, InterruptState
from spark.gateway.v1.gateway_service_pb2 import CancelInterruptRequest
from sparkctl.connections import AgentService, Gateway
from sparkctl.words import age, brief, speech, state

OUTSTANDING = (InterruptState.INTERRUPT_STATE_PENDING, InterruptState.INTERRUPT_STATE_DELIVERED)

_PAGE_SIZE = 200


async def listed(
    agent: AgentService, session_id: str, states: Sequence[InterruptState.ValueType] = ()
) -> AsyncGenerator[Interrupt]:
    """The interrupts of a session in one of the states, none meaning all, in the order of their deposit."""
    request = ListInterruptsRequest(session_id=session_id, states=states, page_size=_PAGE_SIZE)
    async for page in agent.pages(agent.stub.ListInterrupts, request):
        for interrupt in page.interrupts:
            yield interrupt


async def cancel(gateway: Gateway, interrupt_id: str) -> Interrupt:
    request = CancelInterruptRequest(interrupt_id=interrupt_id)
    return (await gateway.ask_again(gateway.stub.CancelInterrupt, request)).interrupt


def table(interrupts: Sequence[Interrupt], now: datetime) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    # Whole on the narrowest terminal, for `cancel`.
    grid.add_column("INTERRUPT", no_wrap=True)
    grid.add_column("STATE")
    grid.add_column("AGE", justify="right")
    grid.add_column("SAYS")
    for interrupt in interrupts:
        grid.add_row(
            interrupt.interrupt_id,
            state(interrupt),
            age(interrupt.create_time, now),
            Text(brief(speech(interrupt))),
        )
    return grid
