"""A session whose agent waits."""

from dataclasses import dataclass
from datetime import datetime

from agent_service.domain import Activity, Message, MessageAppended, SessionId, ToolResponse
from tests.loop.scripted import Script, ScriptedModel, calls, run_turn
from tests.support import Store

HOUR = '{"seconds": 3600}'


@dataclass
class Parked:
    """The session, and the model that goes on when it wakes."""

    store: Store
    session_id: SessionId
    model: ScriptedModel

    async def run(self) -> None:
        """Claim the session, which is due, and run it until it is released."""
        await run_turn(self.store, self.session_id, self.model)

    async def deadline(self) -> datetime:
        """Until when the call lets the agent wait, as the transcript says."""
        (deadline,) = [row.deadline for row in await self._appended() if row.deadline]
        return deadline

    async def let_time_pass(self) -> None:
        """Let the deadline be now."""
        async with self.store.database.connection() as connection:
            await connection.execute(
                "UPDATE messages SET deadline = now() WHERE session_id = $1 AND deadline IS NOT NULL",
                self.session_id,
            )
            await connection.execute(
                "UPDATE sessions SET due_at = now() WHERE session_id = $1 AND lease_owner IS NULL",
                self.session_id,
            )

    async def responses(self) -> list[tuple[str, str]]:
        """The responses in the order in which they were appended, by call and content."""
        contents = [row.content for row in await self._appended()]
        return [(row.call_id, row.content) for row in contents if isinstance(row, ToolResponse)]

    def shown(self) -> list[tuple[object, object]]:
        """The responses in the order in which the last request shows them."""
        return [(row["tool_call_id"], row["content"]) for row in self.model.sent[-1] if row["role"] == "tool"]

    async def assert_waits(self, until: datetime | None = None) -> None:
        """That the session is parked until the deadline of its call, and that nobody takes it before."""
        reading = await self.store.sessions.get(self.session_id)
        assert reading.activity is Activity.WAITING
        assert reading.next_turn_time == await self.deadline() == (until or reading.next_turn_time)
        assert await self.store.leases.claim_due(await self.store.replica(), 10) == []
        assert "turn_ended" not in await self.store.kinds(self.session_id)

    async def _appended(self) -> list[Message]:
        happenings = [event.happening for event in await self.store.streams.page(self.session_id, 0, 100)]
        return [one.message for one in happenings if isinstance(one, MessageAppended)]


async def park(store: Store, *then: Script, reply: Script | None = None) -> Parked:
    """A session whose model waits for an hour, and then says what it is given."""
    session_id = await store.session()
    model = ScriptedModel([reply or calls("wait", arguments=HOUR), *then])
    parked = Parked(store, session_id, model)
    await parked.run()
    return parked
