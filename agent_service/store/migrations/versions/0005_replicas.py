"""What replicas of several releases need to know of each other and of the schema"""

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
    schema_floor = op.create_table("schema_floor", sa.Column("revision", sa.String(32), primary_key=True))
    op.bulk_insert(schema_floor, [{"revision": revision}])
