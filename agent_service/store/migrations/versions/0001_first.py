"""Sessions, messages, events, replicas"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("session_id", "revision"),
    )
    op.create_table(
        "messages",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("source", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("principal", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("covers_through_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("turn", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("round", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("text", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("reasoning", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=True),
        sa.Column("tool_name", sa.Text(), nullable=True),
        sa.Column("is_error", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("notification_type", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("data_json", sa.Text(), nullable=True),
        sa.Column("delivery", sa.String(length=16), nullable=True),
        sa.Column("coalesce_key", sa.Text(), nullable=True),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("posted_revision", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_revision", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_revision", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_revision", sa.BigInteger(), nullable=True),
        sa.Column("settled_as", sa.String(length=16), nullable=True),
        sa.Column("settle_reason", sa.Text(), nullable=True),
        sa.Column("placement", sa.String(length=16), nullable=True),
        sa.Column("render_version", sa.SmallInteger(), nullable=True),
        sa.CheckConstraint("type = 'system' OR position IS NOT NULL", name="messages_position"),
        sa.CheckConstraint(
            "type IN ('user', 'assistant', 'tool_call', 'tool_response', 'system', 'summary')",
            name="messages_type",
        ),
        sa.CheckConstraint("seen_at IS NULL OR position IS NOT NULL", name="messages_seen_after_delivery"),
        sa.PrimaryKeyConstraint("session_id", "message_id"),
    )
    op.create_index(
        "messages_expiring",
        "messages",
        ["expire_time"],
        unique=False,
        postgresql_where=sa.text(
            "type = 'system' AND position IS NULL AND settled_at IS NULL AND expire_time IS NOT NULL"
        ),
    )
    op.create_index(
        "messages_interrupt_id",
        "messages",
        ["message_id"],
        unique=True,
        postgresql_where=sa.text("type = 'system'"),
    )
    op.create_index(
        "messages_pending",
        "messages",
        ["session_id", "posted_revision"],
        unique=False,
        postgresql_where=sa.text("type = 'system' AND position IS NULL AND settled_at IS NULL"),
    )
    op.create_index(
        "messages_position",
        "messages",
        ["session_id", "position"],
        unique=True,
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    op.create_index(
        "messages_request_id",
        "messages",
        ["session_id", "source", "request_id"],
        unique=True,
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_index(
        "messages_summaries",
        "messages",
        ["session_id", "covers_through_position"],
        unique=False,
        postgresql_where=sa.text("type = 'summary'"),
    )
    op.create_table(
        "replicas",
        sa.Column("replica_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("replica_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("display_name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("tool_specs", sa.Text(), nullable=True),
        sa.Column("frame_tag", sa.String(length=32), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_position", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("outstanding", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("turn", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("turn_open", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("round", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.Uuid(), nullable=True),
        sa.Column("lease_epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("model_requests", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("state IN ('active', 'paused', 'ended', 'failed')", name="sessions_state"),
        sa.CheckConstraint("outstanding >= 0", name="sessions_outstanding_not_negative"),
        sa.PrimaryKeyConstraint("session_id"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "sessions_due",
        "sessions",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("lease_owner IS NULL AND state = 'active' AND due_at IS NOT NULL"),
    )
    op.create_index(
        "sessions_held",
        "sessions",
        ["lease_owner"],
        unique=False,
        postgresql_where=sa.text("lease_owner IS NOT NULL"),
    )
    op.create_index(
        "sessions_request_id",
        "sessions",
        ["request_id"],
        unique=True,
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_index(
        "sessions_waiting",
        "sessions",
        ["session_id"],
        unique=False,
        postgresql_where=sa.text("lease_owner IS NULL AND state = 'active' AND outstanding > 0"),
    )
