"""What a turn runs with, limits, waits, and how interrupts were shown"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_FALSE, _ZERO = sa.text("false"), sa.text("0")


def upgrade() -> None:
    op.add_column("sessions", sa.Column("turn_goal", sa.Text()))
    op.add_column("sessions", sa.Column("turn_config", postgresql.JSONB(astext_type=sa.Text())))
    op.add_column(
        "sessions",
        sa.Column(
            "notes",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
    )
    op.add_column("sessions", sa.Column("interrupted", sa.Boolean(), server_default=_FALSE, nullable=False))
    op.add_column("sessions", sa.Column("rounds_from", sa.Integer(), server_default=_ZERO, nullable=False))
    op.add_column("sessions", sa.Column("tokens_from", sa.BigInteger(), server_default=_ZERO, nullable=False))
    op.add_column("sessions", sa.Column("context_tokens", sa.Integer(), server_default=_ZERO, nullable=False))
    op.create_index("sessions_suspect", "sessions", ["session_id"], postgresql_where=sa.text("attempts >= 2"))
    op.add_column("messages", sa.Column("deadline", sa.DateTime(timezone=True)))
    op.add_column("messages", sa.Column("shown_bytes", sa.Integer()))
    op.add_column("messages", sa.Column("left_waiting", sa.Integer()))
