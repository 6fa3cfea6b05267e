"""What tests ask of the agent service again and again."""

from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt
from tests.e2e.client import Door
from tests.e2e.events import facts, has


async def create(agent: Door, goal: str, **config: object) -> str:
    """The id of a new session, which by itself does one turn and then rests, unless the config says else."""
    session = {"goal": goal, "config": {"cooldown": "3600s"} | config}
    return (await agent.call("CreateSession", session=session)).session.session_id


def nudge(session_id: str, text: str) -> dict:
    return {"session_id": session_id, "source": "operator", "nudge": {"text": text}}


async def deposit(agent: Door, session_id: str, text: str) -> Interrupt:
    """A nudge, straight into the agent service as the gateway does it."""
    deposits = [{"interrupt": nudge(session_id, text), "request_id": text}]
    [result] = (await agent.call("DepositInterrupts", deposits=deposits)).results
    return result.interrupt


async def turn(agent: Door, session_id: str, after_revision: int = 0) -> list[Event]:
    """The events after a revision, up to the end of the turn."""
    async with agent.stream(
        "StreamTranscript", session_id=session_id, after_revision=after_revision
    ) as stream:
        await stream.until(has("turn_ended"))
    return facts(stream.responses)
