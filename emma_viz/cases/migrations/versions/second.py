"""A case says to which cluster it belongs; those of before belong to their image's, as in a record that says none."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. The table is not made anew: where SQLite drops one, all that refers to its rows goes with it."""
    op.add_column("casebook_cases", sa.Column("cluster", sa.Text(), nullable=False, server_default=""))
