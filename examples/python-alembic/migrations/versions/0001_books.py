"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates them, with something in."""
    op.create_table("books", sa.Column("id", sa.Integer, primary_key=True), sa.Column("title", sa.Text, nullable=False))
    op.execute("INSERT INTO books (title) VALUES ('Middlemarch'), ('Moby-Dick'), ('Malone Dies')")


def downgrade() -> None:
    """Removes them."""
    op.drop_table("books")
