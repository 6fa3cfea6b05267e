"""Tools that come and go together, beside those that are built in."""

import asyncio

from agent_service.domain import ToolCall
from agent_service.settings import BUILT_IN_TOOLS
from agent_service.tools import Toolbox, Traits
from agent_service.tools.builtin import builtin_tools
from agent_service.tools.tell import Tell
from agent_service.tools.tool_set import Offer, SetKind, SetState
from agent_service.tools.toolbox import BUILT_IN
from tests.tools.held import CONTEXT, Held
from tests.tools.light import DOWN, Light


def box_of(*sets: Light) -> Toolbox:
    return Toolbox(builtin_tools(), max_output_bytes=1000, timeout_seconds=3600, sets=sets)


def offered(box: Toolbox, *names: str) -> list[str]:
    return [spec.name for spec in box.specs(names)]


def test_sessions_may_name_a_set_whatever_it_offers() -> None:
    assert box_of(Light()).names == ("now", "wait", "note", "light")


def test_the_tools_of_a_set_are_offered_to_sessions_that_name_it_and_to_no_others() -> None:
    box = box_of(Light(Held("light_on"), Held("light_off")))
    assert offered(box, "light") == ["light_on", "light_off"]
    assert offered(box, "light", "now") == ["now", "light_on", "light_off"]
    assert offered(box) == ["now", "wait", "note"]
    assert offered(box, "light_on") == []


def test_what_a_set_offers_is_looked_up_each_time() -> None:
    light = Light(Held("light_on"))
    box = box_of(light)
    assert offered(box, "light") == ["light_on"]
    light.tools = (Held("light_off"),)
    assert offered(box, "light") == ["light_off"]


async def test_a_tool_of_a_set_is_called_where_it_was_offered() -> None:
    on = Held("light_on")
    on.let_go.set()
    box = box_of(Light(on))
    response = await box.call(ToolCall("c1", "light_on", "{}"), box.specs(["light"]), CONTEXT)
    assert response.content == "light_on is done"
    response = await box.call(ToolCall("c1", "light_on", "{}"), box.specs(["now"]), CONTEXT)
    assert response.content == "There is no tool 'light_on'. Tools: now."


async def test_a_tool_that_its_set_offers_no_more_is_not_there() -> None:
    light = Light(Held("light_on"), Held("light_off"))
    box = box_of(light)
    before = box.specs(["light"])
    light.tools = light.tools[1:]
    response = await box.call(ToolCall("c1", "light_on", "{}"), before, CONTEXT)
    assert response.content == "There is no tool 'light_on'. Tools: light_off."


def test_the_traits_of_a_tool_of_a_set_count() -> None:
    box = box_of(Light(Held("light_on", Traits(cancellable=True, repeatable=True))))
    assert (box.cancellable("light_on"), box.repeatable("light_on")) == (True, True)


async def test_sets_that_are_named_are_waited_for() -> None:
    light = Light()
    box = box_of(light)
    await box.ready(["now"])
    waiting = asyncio.create_task(box.ready(["now", "light"]))
    await light.asked.wait()
    assert not waiting.done()
    light.started.set()
    await waiting


def test_it_is_told_how_everything_stands() -> None:
    built_in, light = box_of(Light()).standings
    assert (built_in.name, built_in.kind, built_in.state) == (BUILT_IN, SetKind.BUILT_IN, SetState.UP)
    assert built_in.offers[0] == Offer("now", "Tells the date and the time.")
    assert light is DOWN


def test_no_set_can_have_the_name_of_what_is_built_in() -> None:
    assert {BUILT_IN, Tell.spec.name, *(tool.spec.name for tool in builtin_tools())} == set(BUILT_IN_TOOLS)
