"""An answer says what was beside the weights of its model; of those of before that is not known."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("casebook_answers", sa.Column("beside", sa.Text(), nullable=False, server_default=""))
