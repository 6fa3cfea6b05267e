from contextlib import AsyncExitStack, aclosing

import grpc
import pytest

from sparkctl.connections import agent_service
from sparkctl.failures import CallFailed
from sparkctl.follow import Connected, Disconnected, Notice, Waiting, follow
from tests.sparkctl.events import SESSION, Script, delta, nudge
from tests.sparkctl.scripted import Broken, Forever, scripted_services


async def collect(agent, after_revision=0):
    """What a watcher is told, each event by its revision."""
    told = []
    async for piece in follow(agent, SESSION, after_revision, include_deltas=True):
        if isinstance(piece, Notice):
            told.append(type(piece).__name__)
        else:
            told += [event.revision for event in piece]
    return told


async def test_a_stream_that_is_cut_goes_on_after_the_last_revision(scripted, agent):
    first, second, third = Script().session().turn().session("ENDED")
    scripted.agent.streams = [[first, second, Broken()], [third]]

    assert await collect(agent) == [1, 2, "Disconnected", "Connected", 3]
    assert [request.after_revision for request in scripted.agent.opened] == [0, 2]


async def test_what_waits_from_before_the_first_event_comes_first(scripted, agent):
    scripted.agent.streams = [Script().session("ENDED")]
    scripted.agent.interrupts = [nudge(state) for state in ("SEEN", "DELIVERED", "PENDING", "PENDING")]
    for revision, interrupt in enumerate(scripted.agent.interrupts, 5):
        interrupt.revision = revision

    news = [piece async for piece in follow(agent, SESSION, 7, include_deltas=False)]

    assert news[0] == Waiting(scripted.agent.interrupts[1:3])
    assert not any(isinstance(piece, Waiting) for piece in news[1:])


@pytest.mark.parametrize("after_revision", [0, 7])
async def test_where_nothing_waits_nothing_is_said(scripted, agent, after_revision):
    scripted.agent.streams = [Script().session("ENDED")]

    assert await collect(agent, after_revision) == [1]


async def test_a_long_absence_is_told_once(scripted, agent):
    first, second = Script().session().session("ENDED")
    scripted.agent.streams = [[first, Broken()], [Broken()], [Broken()], [second]]

    assert await collect(agent) == [1, "Disconnected", "Connected", 2]


async def test_a_service_that_was_never_there_is_not_waited_for(scripted, agent):
    scripted.agent.streams = [[Broken()]]

    with pytest.raises(CallFailed, match="cannot reach the agent service"):
        await collect(agent)


async def test_a_delta_does_not_move_the_cursor(scripted, agent):
    first, second = Script().turn().session("ENDED")
    scripted.agent.streams = [[first, delta("The lamp"), Broken()], [second]]

    assert await collect(agent) == [1, 0, "Disconnected", "Connected", 2]
    assert scripted.agent.opened[1].after_revision == 1


async def test_a_service_that_restarts_is_found_again():
    first, second = Script().session().session("ENDED")
    async with AsyncExitStack() as stack:
        async with scripted_services() as before:
            before.agent.streams = [[first, Forever()]]
            agent = await stack.enter_async_context(agent_service(before.address))
            news = await stack.enter_async_context(aclosing(follow(agent, SESSION, 0, False)))
            assert list(await anext(news)) == [first]
        assert isinstance(await anext(news), Disconnected)

        after = await stack.enter_async_context(scripted_services(before.address))
        after.agent.streams = [[second]]
        assert isinstance(await anext(news), Connected)
        assert list(await anext(news)) == [second]


async def test_an_error_that_repetition_cannot_mend_ends_the_watching(scripted, agent):
    gone = Broken(grpc.StatusCode.NOT_FOUND, "session x does not exist", "SESSION_NOT_FOUND")
    scripted.agent.streams = [[gone]]

    with pytest.raises(CallFailed, match=r"session x does not exist \(SESSION_NOT_FOUND\)"):
        await collect(agent)
