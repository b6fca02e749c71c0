"""A migration that goes well."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds a column."""
    op.add_column("books", sa.Column("shelf", sa.Text))


def downgrade() -> None:
    """Removes it."""
    with op.batch_alter_table("books") as table:
        table.drop_column("shelf")
