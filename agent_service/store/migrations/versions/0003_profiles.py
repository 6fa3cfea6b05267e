"""Where interrupts go in the requests of each model"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("announced", sa.String(16)))
    op.add_column("sessions", sa.Column("profile", postgresql.JSONB(astext_type=sa.Text())))
    op.add_column("sessions", sa.Column("voice_profile", postgresql.JSONB(astext_type=sa.Text())))
    op.create_table(
        "model_profiles",
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("profile", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("evidence", sa.String(16), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("server", "model", "template"),
    )
