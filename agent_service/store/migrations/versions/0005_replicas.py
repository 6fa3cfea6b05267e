"""How many sessions a replica takes, and those taken over by their number of takeovers"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "replicas", sa.Column("max_sessions", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.create_index(
        "sessions_taken_over", "sessions", ["attempts"], postgresql_where=sa.text("attempts >= 1")
    )
    op.drop_index("sessions_suspect", "sessions")
