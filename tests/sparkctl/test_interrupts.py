from io import StringIO

import pytest
from rich.console import Console

from sparkctl import interrupts
from tests.sparkctl.events import INTERRUPT, SESSION, at, nudge
from tests.sparkctl.scripted import Broken


async def test_a_listing_goes_on_to_the_last_page(scripted, agent):
    scripted.agent.interrupts = [nudge(text=str(number)) for number in range(5)]

    assert [one async for one in interrupts.listed(agent, SESSION)] == scripted.agent.interrupts
    assert {request.session_id for request in scripted.agent.listed} == {SESSION}


async def test_a_listing_keeps_the_states_that_are_asked_for(scripted, agent):
    scripted.agent.interrupts = [nudge(state) for state in ("PENDING", "DELIVERED", "SEEN", "EXPIRED")]

    outstanding = [one async for one in interrupts.listed(agent, SESSION, interrupts.OUTSTANDING)]
    assert outstanding == scripted.agent.interrupts[:2]


async def test_a_cancel_is_repeated_while_the_gateway_is_away(scripted, door):
    scripted.gateway.failures = [Broken()]

    assert (await interrupts.cancel(door, INTERRUPT)).settle_reason == "on request"


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_has_whole_ids_whatever_the_width(width):
    shown = [nudge(), nudge("SEEN", text="[red]Words that go on and on, as words sometimes do.")]
    console = Console(file=StringIO(), width=width)
    console.print(interrupts.table(shown, at(70).ToDatetime().astimezone()))

    written = console.file.getvalue()
    assert written.split()[:4] == ["INTERRUPT", "STATE", "AGE", "SAYS"]
    assert written.count(INTERRUPT) == 2
    assert "pending" in written
    assert "60 s" in written
    assert "[red]Words" in written
