"""Alembic's environment, with a snapshot that is put back if a migration fails."""

from alembic import context
from copal.contrib.alembic import safety_snapshot
from settings import DATABASE_URL
from sqlalchemy import create_engine, pool

from models import Base

if context.is_offline_mode():
    context.configure(url=DATABASE_URL, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(DATABASE_URL, poolclass=pool.NullPool)
    with safety_snapshot(engine):
        with engine.connect() as connection:
            context.configure(connection=connection, target_metadata=Base.metadata)
            with context.begin_transaction():
                context.run_migrations()
