"""How long the tokens of a session are"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column(
        "sessions",
        sa.Column("bytes_per_token", sa.Double(), server_default=sa.text("3"), nullable=False),
    )
