"""Alembic's environment, as `alembic init` writes it, and two lines more."""

import os

from alembic import context
from copal.contrib.alembic import safety_snapshot
from sqlalchemy import create_engine, pool

url = os.environ.get("DATABASE_URL") or context.config.get_main_option("sqlalchemy.url")
assert url is not None


def run_migrations_offline() -> None:
    """Writes SQL instead of running it."""
    context.configure(url=url, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online(url: str) -> None:
    """Runs the migrations; if one fails, the database is what it was before."""
    engine = create_engine(url, poolclass=pool.NullPool)
    with safety_snapshot(engine):
        with engine.connect() as connection:
            context.configure(connection=connection, transaction_per_migration=True)
            with context.begin_transaction():
                context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online(url)
