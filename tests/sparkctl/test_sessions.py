from io import StringIO

import grpc
import pytest
from rich.console import Console

from spark.agent.v1.agent_service_pb2 import ListSessionsRequest
from spark.agent.v1.session_pb2 import Session
from sparkctl import requests, sessions
from sparkctl.failures import CallFailed, UsageFailed
from tests.sparkctl.events import SESSION, at
from tests.sparkctl.scripted import Broken


def a_session(number, name="", state="ACTIVE", **fields):
    return Session(
        session_id=f"0199c0de-{number:04x}-7000-8000-000000000000",
        display_name=name,
        state=f"SESSION_STATE_{state}",
        create_time=at(0),
        **fields,
    )


async def test_a_listing_goes_on_to_the_last_page(scripted, agent):
    scripted.agent.sessions = [a_session(number) for number in range(5)]

    assert [one async for one in sessions.listed(agent, ListSessionsRequest())] == scripted.agent.sessions


class TestASessionIsFound:
    async def test_by_its_id_without_looking_it_up(self, agent):
        assert await sessions.find(agent, SESSION.upper()) == SESSION

    async def test_by_the_beginning_of_its_id(self, scripted, agent):
        scripted.agent.sessions = [a_session(1), a_session(2), a_session(3)]

        assert await sessions.find(agent, "0199C0DE-0003") == a_session(3).session_id

    async def test_by_its_name(self, scripted, agent):
        scripted.agent.sessions = [a_session(1, "harbour"), a_session(2), a_session(3, "lighthouse")]

        assert await sessions.find(agent, "lighthouse") == a_session(3).session_id

    async def test_by_a_name_that_only_ended_sessions_share_with_it(self, scripted, agent):
        ended = [a_session(number, "lighthouse", "ENDED") for number in (1, 2)]
        scripted.agent.sessions = [*ended, a_session(3, "lighthouse")]

        assert await sessions.find(agent, "lighthouse") == a_session(3).session_id

    async def test_not_if_several_fit(self, scripted, agent):
        scripted.agent.sessions = [a_session(1, "lighthouse"), a_session(2, "lighthouse", "PAUSED")]

        with pytest.raises(
            UsageFailed, match=r"'lighthouse' means 2 sessions: 0199c0de-0001-.*0199c0de-0002-"
        ):
            await sessions.find(agent, "lighthouse")

    async def test_not_if_none_fits(self, scripted, agent):
        scripted.agent.sessions = [a_session(1, "lighthouse")]

        with pytest.raises(UsageFailed, match="no session"):
            await sessions.find(agent, "light")

    @pytest.mark.parametrize("nothing", ["", " "])
    async def test_not_by_nothing_which_is_the_beginning_of_every_id(self, scripted, agent, nothing):
        scripted.agent.sessions = [a_session(1, "")]

        with pytest.raises(UsageFailed, match="is empty"):
            await sessions.find(agent, nothing)


async def test_a_creation_is_repeated_under_the_same_request_id(scripted, agent):
    scripted.agent.failures = [Broken()]

    await sessions.create(agent, Session(goal="Keep the lamp."))
    first, second = scripted.agent.created
    assert first.request_id
    assert first == second


class TestAnUpdate:
    async def test_asks_for_what_the_mask_names_of_the_session_that_is_meant(self, scripted, agent):
        scripted.agent.sessions = [a_session(1)]
        change = requests.session(goal="Keep the harbour.", max_turns=7)

        assert (await sessions.update(agent, a_session(1).session_id, change)).session_id == a_session(
            1
        ).session_id
        (asked,) = scripted.agent.updated
        assert asked.session.session_id == a_session(1).session_id
        assert (asked.session.goal, asked.session.config.max_turns) == ("Keep the harbour.", 7)
        assert asked.update_mask == change.update_mask

    async def test_is_repeated_while_the_service_is_away(self, scripted, agent):
        scripted.agent.sessions, scripted.agent.failures = [a_session(1)], [Broken()]

        await sessions.update(agent, a_session(1).session_id, requests.session(name="harbour"))
        first, second = scripted.agent.updated
        assert first == second

    async def test_of_nothing_is_not_asked_for(self, scripted, agent):
        with pytest.raises(UsageFailed, match="nothing is to be changed"):
            await sessions.update(agent, SESSION, requests.session())
        assert scripted.agent.updated == []


async def test_a_refusal_is_told_in_the_words_of_the_service(scripted, agent):
    with pytest.raises(
        CallFailed, match=rf"session {SESSION} does not exist \(SESSION_NOT_FOUND\)"
    ) as failed:
        await sessions.end(agent, SESSION)
    assert failed.value.code is grpc.StatusCode.NOT_FOUND


def test_the_table_shows_as_much_of_an_id_as_tells_it_from_the_others():
    shown = [
        a_session(1, "harbour", activity="ACTIVITY_BACKING_OFF", turn=3, pending_interrupts=2),
        a_session(2, "light[red]house", "PAUSED"),
    ]
    console = Console(file=StringIO(), width=100)
    console.print(sessions.table(shown, at(7200).ToDatetime().astimezone()))

    heading, first, second = console.file.getvalue().splitlines()
    assert heading.split() == ["SESSION", "NAME", "STATE", "TURN", "PENDING", "AGE"]
    assert first.split() == ["0199c0de-0001", "harbour", "backing", "off", "3", "2", "2", "h"]
    assert second.split() == ["0199c0de-0002", "light[red]house", "paused", "0", "0", "2", "h"]
