"""A migration with a mistake: it destroys something, and fails after that."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Works in its own transaction for the first half, as large migrations do."""
    with op.get_context().autocommit_block():
        op.execute("UPDATE books SET title = upper(title)")
        op.execute("DELETE FROM books WHERE id > 1")
    op.execute("ALTER TABLE boks ADD COLUMN typo TEXT")


def downgrade() -> None:
    """Nobody can bring the rows back. The snapshot can."""
