"""A shop: FastAPI, PostgreSQL, migrations at the start, and the backups that copal.toml promises."""

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import AsyncIterator, Dict, Iterator, Optional

from alembic import command
from alembic.config import Config
from anyio import to_thread
from copal.contrib.fastapi import lifespan, router
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from settings import DATABASE_URL
from sqlalchemy import create_engine, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import Customer, Order

HERE = Path(__file__).parent
engine = create_engine(DATABASE_URL, pool_pre_ping=True)


def migrate() -> None:
    """Brings the schema up to date; migrations/env.py puts the database back if that fails."""
    command.upgrade(Config(str(HERE / "alembic.ini")), "head")


@asynccontextmanager
async def own_lifespan(_: FastAPI) -> AsyncIterator[None]:
    """What the service does at its start and its end besides backups."""
    if os.environ.get("MIGRATE", "1") == "1":
        await to_thread.run_sync(migrate)
    yield
    engine.dispose()


CONFIGURATION = os.environ.get("COPAL_CONFIG", HERE / "copal.toml")

app = FastAPI(title="Shop", lifespan=lifespan(config=CONFIGURATION, wrap=own_lifespan))
# Say who may see and start backups: router(dependencies=[Depends(only_admins)]).
app.include_router(router())


class NewOrder(BaseModel):
    """What a customer wants."""

    customer: str
    cents: int
    note: Optional[str] = None


def session() -> Iterator[Session]:
    """A transaction for one request."""
    with Session(engine) as made, made.begin():
        yield made


@app.post("/orders", status_code=201)
def order(new: NewOrder, db: Session = Depends(session, scope="function")) -> Dict[str, int]:
    """Takes an order and adds it to the customer's sum, both or neither."""
    # One statement, so that two first orders of somebody do not meet.
    added = insert(Customer).values(name=new.customer, cents=new.cents)
    added = added.on_conflict_do_update(index_elements=["name"], set_={"cents": Customer.cents + new.cents})
    made = Order(customer_id=db.scalar(added.returning(Customer.id)), cents=new.cents, note=new.note)
    db.add(made)
    db.flush()
    return {"id": made.id}


@app.get("/customers/{name}")
def customer(name: str, db: Session = Depends(session, scope="function")) -> Dict[str, int]:
    """What somebody has ordered in all."""
    found = db.scalar(select(Customer).where(Customer.name == name))
    return {"cents": found.cents if found else 0}
