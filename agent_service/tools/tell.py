"""The tool `tell`, by which one agent nudges another."""

import hashlib
from unicodedata import category
from uuid import UUID

from agent_service.domain import Delivery, Deposit, Json, JsonObject, Nudge, SessionId, storable
from agent_service.errors import SparkError, Unavailable
from agent_service.model import ToolSpec
from agent_service.store.deposits import Deposits
from agent_service.store.peers import Peers
from agent_service.tools.protocol import ToolContext, ToolOutcome, Traits

# A nudge that an agent sends because of another agent's has one hop more than that one. Without a limit two
# agents could wake each other for ever.
MAX_HOPS = 8


class _NotTold(Exception):
    """Why, in words for the model."""


class Tell:
    """Nudges a session that shares a label with the caller's. Any other is as good as not there."""

    traits = Traits(repeatable=True, by_name=True)
    spec = ToolSpec(
        "tell",
        "Tells another agent something, which it reads at its next step. "
        "Answers come as messages from outside, if at all.",
        {
            "type": "object",
            "properties": {
                "session": {"type": "string", "description": "The id of its session, or its name"},
                "text": {"type": "string", "description": "What it is to know or to do"},
            },
            "required": ["session", "text"],
        },
    )

    def __init__(self, peers: Peers, deposits: Deposits, max_text_bytes: int) -> None:
        self._peers, self._deposits, self._max_text_bytes = peers, deposits, max_text_bytes

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        try:
            text = self._text(arguments.get("text"))
            peer = await self._peer(arguments.get("session"), context.session_id)
            hops = await self._hops(context.session_id)
            told = await self._deposits.deposit(_nudge(peer, text, hops, context))
        except Unavailable:
            return ToolOutcome("It is not known whether the message was sent.", is_error=True)
        except (_NotTold, SparkError) as why:
            return ToolOutcome(f"Not told: {why}.", is_error=True)
        return ToolOutcome(f"Told session {peer}. The message is {told.interrupt.state.value}.")

    def _text(self, text: Json) -> str:
        """As the contract has the text of a nudge."""
        if not isinstance(text, str) or not text.strip():
            raise _NotTold("text must be a string that says something")
        if any(category(character) in ("Cc", "Cs") and character not in "\n\t" for character in text):
            raise _NotTold("text has a control character; newline and tab are allowed")
        if len(text.encode()) > self._max_text_bytes:
            most = f"{self._max_text_bytes} bytes of UTF-8"
            raise _NotTold(f"text is longer than SPARK_MAX_TEXT_BYTES allows: {most}")
        return text

    async def _peer(self, name: Json, own: SessionId) -> SessionId:
        if not isinstance(name, str) or not name.strip():
            raise _NotTold("session must be a string, the id or the name of a session")
        found = await self._peers.named(own, _session_id(name), storable(name))
        others = [peer for peer in found if peer.session_id != own]
        # Where all have ended, the newest is meant.
        match [peer for peer in others if not peer.ended] or others[:1]:
            case [] if found:
                raise _NotTold("that is this session itself")
            case []:
                raise _NotTold(f"there is no session {name!r} that shares a label with this one")
            case [peer]:
                return peer.session_id
            case several:
                ids = ", ".join(str(peer.session_id) for peer in several)
                raise _NotTold(f"several sessions have the name {name!r}; say which one by its id: {ids}")

    async def _hops(self, own: SessionId) -> int:
        hops = 1 + await self._peers.hops(own)
        if hops > MAX_HOPS:
            raise _NotTold(
                f"hop limit reached: this turn goes back to messages that agents sent each other {MAX_HOPS} "
                "times in a row; only a turn without such messages may tell again"
            )
        return hops


def _session_id(name: str) -> SessionId | None:
    try:
        return SessionId(UUID(name))
    except ValueError:
        return None


def _nudge(peer: SessionId, text: str, hops: int, context: ToolContext) -> Deposit:
    """The same for the same call, so that one that is run again is no second nudge."""
    return Deposit(
        session_id=peer,
        source=f"agent:{context.session_id}",
        principal="",
        body=Nudge(text),
        delivery=Delivery.NEXT_ROUND,
        coalesce_key="",
        expire_time=None,
        request_id=f"tell:{_digest(context.call_key).hex()}",
        digest=_digest(text),
        hops=hops,
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
