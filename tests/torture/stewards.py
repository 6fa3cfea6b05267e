"""Those who pause, resume, change and end sessions, and make new ones."""

from random import Random

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from spark.agent.v1.agent_service_pb2 import (
    EndSessionRequest,
    ListSessionsRequest,
    PauseSessionRequest,
    ResumeSessionRequest,
    UpdateSessionRequest,
)
from spark.agent.v1.session_pb2 import (
    SESSION_STATE_FAILED,
    SESSION_STATE_PAUSED,
    Session,
    SessionConfig,
)
from tests.torture.town import TOOLS, Town, goal


async def pause(name: str, town: Town, chance: Random) -> None:
    """For a while."""
    while not town.enough.is_set():
        session_id = town.any_session()
        await town.ask_agents(name, "PauseSession", PauseSessionRequest(session_id=session_id))
        await town.rest(chance.uniform(0.2, 2))
        await town.ask_agents(name, "ResumeSession", ResumeSessionRequest(session_id=session_id))
        await town.rest(chance.uniform(0.5, 2))


async def revive(name: str, town: Town, chance: Random) -> None:
    """What has failed or reached a limit goes on; at the end, too."""
    listing = ListSessionsRequest(states=[SESSION_STATE_FAILED, SESSION_STATE_PAUSED], page_size=1000)
    last = False
    while not last:
        await town.rest(chance.uniform(2, 4))
        last = town.enough.is_set()
        answered = await town.ask_agents(name, "ListSessions", listing)
        for session in answered.message.sessions:
            await town.ask_agents(name, "ResumeSession", ResumeSessionRequest(session_id=session.session_id))


async def update(name: str, town: Town, chance: Random) -> None:
    changed = 0
    while not town.enough.is_set():
        await town.rest(chance.uniform(0.5, 2))
        session_id, changed = town.any_session(), changed + 1
        session = Session(
            session_id=session_id,
            goal=goal(town.sessions[session_id], f"Keep the lamp, and count to {changed}."),
            config=SessionConfig(tools=TOOLS[: chance.randint(1, len(TOOLS))], cooldown=Duration(seconds=1)),
        )
        paths = chance.sample(("goal", "config.cooldown", "config.tools"), k=chance.randint(1, 3))
        request = UpdateSessionRequest(session=session, update_mask=FieldMask(paths=paths))
        await town.ask_agents(name, "UpdateSession", request)


async def end(name: str, town: Town, chance: Random) -> None:
    """And make another one in its place."""
    while not town.enough.is_set():
        await town.rest(chance.uniform(3, 6))
        session_id = town.any_session()
        await town.ask_agents(name, "EndSession", EndSessionRequest(session_id=session_id))
        town.sessions.pop(session_id)
        if not town.enough.is_set():
            await town.settle(name)
