"""The example with the real services."""

from pathlib import Path

from spark.agent.v1.message_pb2 import Message
from tests.conftest import Postgres
from tests.e2e.client import Client, programs
from tests.examples.scripted_agents import agents_of


def heard(rows: list[Message]) -> list[tuple[str, str]]:
    """Who nudged, and with which words."""
    interrupts = [row.interrupt for row in rows if row.HasField("interrupt")]
    return [(interrupt.source, interrupt.nudge.text) for interrupt in interrupts]


async def test_two_agents_tell_each_other_until_the_limit_and_a_stranger_reaches_neither(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with agents_of("collaborator", postgres, Client(programs()[0]), tmp_path) as agents:
        keeper = await agents.create("keeper", "You are the keeper.", "tell", watch="north")
        lookout = await agents.create("lookout", "You are the lookout.", "tell", watch="north")
        stranger = await agents.create(
            "stranger", "You are the lookout of another light.", "tell", watch="south"
        )
        await agents.post(stranger, "Hail the keeper.")
        await agents.until_said(stranger, "there is no session 'keeper' that shares a label with this one")
        await agents.post(keeper, "What is at sea?")
        rows = await agents.until_said(keeper, "hop limit reached")
        answers = [(f"agent:{lookout}", text) for text in ["A trawler, close in.", *["You are welcome."] * 3]]
        assert heard(rows) == [("operator", "What is at sea?"), *answers]
        rows = await agents.messages(lookout)
        questions = ["What is off the north rocks?", *["Thank you."] * 3]
        assert heard(rows) == [(f"agent:{keeper}", text) for text in questions]
