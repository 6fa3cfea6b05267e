"""The schema. Migrations bring it up; a test compares the two.

Primary keys start with `session_id`, so that the tables shard together. The row of a session is its one
serialisation point: whatever changes the session or its rows takes that row's lock first, and so knows that
the session exists; there are no foreign keys to check it again for every row.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()


def _time(name: str, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _count(name: str, kind: type[Integer] = Integer) -> Column[object]:
    return Column(name, kind, nullable=False, server_default=text("0"))


def _words(name: str) -> Column[object]:
    return Column(name, Text, nullable=False, server_default=text("''"))


sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Uuid, primary_key=True),
    _time("create_time", nullable=False),
    Column("request_id", Text),
    Column("digest", LargeBinary),
    _words("display_name"),
    Column("goal", Text, nullable=False),
    Column("state", String(16), nullable=False),
    _words("state_reason"),
    Column("config", JSONB, nullable=False),
    Column("labels", JSONB, nullable=False),
    # What the newest turn runs with, kept so that requests only grow at their end.
    Column("turn_goal", Text),
    Column("turn_config", JSONB),
    Column("system_prompt", Text),
    Column("tool_specs", Text),
    Column("notes", JSONB, nullable=False, server_default=text("'[]'")),
    # The place of interrupts that the system prompt names.
    Column("announced", String(16)),
    # Of the agent's model and its inner voice's; NULL where nobody knows yet.
    Column("profile", JSONB),
    Column("voice_profile", JSONB),
    Column("frame_tag", String(32), nullable=False),
    _count("revision", BigInteger),
    Column("next_position", BigInteger, nullable=False, server_default=text("1")),
    # Interrupts neither seen nor settled. Moves in the statements that deposit, see and settle.
    _count("outstanding"),
    _count("turn"),
    Column("turn_open", Boolean, nullable=False, server_default=text("false")),
    # The newest round begun in the turn (0: none yet) and the attempts at it.
    _count("round"),
    _count("attempt"),
    # Whether a request of this round was cancelled for an interrupt: the next one is not.
    Column("interrupted", Boolean, nullable=False, server_default=text("false")),
    # From where the limits on rounds of the turn and on tokens count.
    _count("rounds_from"),
    _count("tokens_from", BigInteger),
    # The last request of the agent with its reply, as the server counted it; 0 where it did not.
    _count("context_tokens"),
    # By which what nobody has counted is estimated, less where tokens are found to be shorter.
    Column("bytes_per_token", Double, nullable=False, server_default=text("3")),
    # When work goes on by itself (NULL: never), and before when it must not (back-off).
    _time("due_at"),
    _time("not_before"),
    Column("lease_owner", Uuid),
    _count("lease_epoch", BigInteger),
    # Takeovers from unclean ends since the last completed round.
    _count("attempts"),
    _count("input_tokens", BigInteger),
    _count("cached_input_tokens", BigInteger),
    _count("output_tokens", BigInteger),
    _count("model_requests", BigInteger),
    CheckConstraint("state IN ('active', 'paused', 'ended', 'failed')", name="sessions_state"),
    CheckConstraint("outstanding >= 0", name="sessions_outstanding_not_negative"),
    # Room on the page for new versions of a row that no index has to follow.
    postgresql_with={"fillfactor": 70},
)
_UNHELD = "lease_owner IS NULL AND state = 'active'"
Index(
    "sessions_request_id",
    sessions.c.request_id,
    unique=True,
    postgresql_where=text("request_id IS NOT NULL"),
)
Index("sessions_display_name", sessions.c.display_name, postgresql_where=text("display_name <> ''"))
Index("sessions_due", sessions.c.due_at, postgresql_where=text(f"{_UNHELD} AND due_at IS NOT NULL"))
Index("sessions_waiting", sessions.c.session_id, postgresql_where=text(f"{_UNHELD} AND outstanding > 0"))
Index("sessions_taken_over", sessions.c.attempts, postgresql_where=text("attempts >= 1"))
Index("sessions_held", sessions.c.lease_owner, postgresql_where=text("lease_owner IS NOT NULL"))

messages = Table(
    "messages",
    metadata,
    Column("session_id", Uuid, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    Column("type", String(16), nullable=False),
    _words("source"),
    _words("principal"),
    # NULL while an interrupt is pending, and for ever where it settled before its delivery.
    Column("position", BigInteger),
    _count("covers_through_position", BigInteger),
    _count("turn"),
    _count("round"),
    # What the row says: words, a call's arguments, a response's content.
    _words("text"),
    _words("reasoning"),
    Column("call_id", Text),
    Column("tool_name", Text),
    Column("is_error", Boolean, nullable=False, server_default=text("false")),
    # Until when a call lets the agent wait.
    _time("deadline"),
    # NULL in a nudge.
    Column("notification_type", Text),
    Column("subject", Text),
    Column("data_json", Text),
    Column("delivery", String(16)),
    Column("coalesce_key", Text),
    _time("expire_time"),
    Column("request_id", Text),
    Column("digest", LargeBinary),
    _time("posted_at", nullable=False),
    Column("posted_revision", BigInteger, nullable=False),
    _time("delivered_at"),
    Column("delivered_revision", BigInteger),
    _time("seen_at"),
    Column("seen_revision", BigInteger),
    _time("settled_at"),
    Column("settled_revision", BigInteger),
    Column("settled_as", String(16)),
    Column("settle_reason", Text),
    Column("placement", String(16)),
    Column("render_version", SmallInteger),
    # How many bytes of an interrupt are shown (NULL: all), and how many more were due and did not fit.
    Column("shown_bytes", Integer),
    Column("left_waiting", Integer),
    # How many agents have passed it on, one to the next; 0 from outside.
    _count("hops"),
    CheckConstraint(
        "type IN ('user', 'assistant', 'tool_call', 'tool_response', 'system', 'summary')",
        name="messages_type",
    ),
    CheckConstraint("type = 'system' OR position IS NOT NULL", name="messages_position"),
    CheckConstraint("seen_at IS NULL OR position IS NOT NULL", name="messages_seen_after_delivery"),
)
_PENDING = "type = 'system' AND position IS NULL AND settled_at IS NULL"
Index(
    "messages_position",
    messages.c.session_id,
    messages.c.position,
    unique=True,
    postgresql_where=text("position IS NOT NULL"),
)
Index(
    "messages_summaries",
    messages.c.session_id,
    messages.c.covers_through_position,
    postgresql_where=text("type = 'summary'"),
)
Index(
    "messages_request_id",
    messages.c.session_id,
    messages.c.source,
    messages.c.request_id,
    unique=True,
    postgresql_where=text("request_id IS NOT NULL"),
)
Index("messages_interrupt_id", messages.c.message_id, unique=True, postgresql_where=text("type = 'system'"))
Index("messages_pending", messages.c.session_id, messages.c.posted_revision, postgresql_where=text(_PENDING))
Index(
    "messages_expiring",
    messages.c.expire_time,
    postgresql_where=text(f"{_PENDING} AND expire_time IS NOT NULL"),
)

events = Table(
    "events",
    metadata,
    Column("session_id", Uuid, primary_key=True),
    Column("revision", BigInteger, primary_key=True),
    _time("create_time", nullable=False),
    Column("type", String(32), nullable=False),
    # The row that the event is about, and what no row keeps.
    Column("message_id", Uuid),
    Column("data", JSONB),
)

replicas = Table(
    "replicas",
    metadata,
    Column("replica_id", Uuid, primary_key=True),
    Column("address", Text, nullable=False),
    _time("lease_until", nullable=False),
    # Until it holds so many, others hand sessions over to it. 0: it has not said, or is about to stop.
    _count("max_sessions"),
)

# One row: the oldest migration whose code still fits the schema.
schema_floor = Table("schema_floor", metadata, Column("revision", String(32), primary_key=True))

# What was found out about models. They are kept for ever: a server may come back.
model_profiles = Table(
    "model_profiles",
    metadata,
    Column("server", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("template", Text, primary_key=True),
    Column("profile", JSONB, nullable=False),
    Column("evidence", String(16), nullable=False),
    _time("found_at", nullable=False),
)
