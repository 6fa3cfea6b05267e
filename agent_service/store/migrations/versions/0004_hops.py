"""How many agents an interrupt has come by, and sessions by their names"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("messages", sa.Column("hops", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "sessions_display_name",
        "sessions",
        ["display_name"],
        postgresql_where=sa.text("display_name <> ''"),
    )
