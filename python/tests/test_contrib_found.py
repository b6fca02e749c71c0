"""What frameworks meet: several processes at one instant, version tables of other names, a repository that is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock, FakeWork
from test_backups import make
from test_jobs import NOON

import copal
from copal.jobs import Job, Scheduler

ENV = """
from alembic import context
from sqlalchemy import create_engine
from copal.contrib.alembic import safety_snapshot

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
told = {TOLD}
with safety_snapshot(engine, **(told if {TELL} else {})):
    with engine.connect() as connection:
        context.configure(connection=connection, **told)
        with context.begin_transaction():
            context.run_migrations()
"""

VERSION = """
from alembic import op
import sqlalchemy

revision = "0001"
down_revision = None

def upgrade():
    op.create_table("t", sqlalchemy.Column("n", sqlalchemy.Integer))

def downgrade():
    op.drop_table("t")
"""


@pytest.mark.parametrize("tell", [False, True])
def test_a_version_table_of_another_name_costs_no_snapshot(tmp_path: Path, tell: bool) -> None:
    pytest.importorskip("alembic")
    from alembic import command
    from alembic.config import Config

    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    env = ENV.replace("{TOLD}", "{'version_table': 'my_versions'}").replace("{TELL}", str(tell))
    (tmp_path / "migrations" / "env.py").write_text(env)
    (tmp_path / "migrations" / "versions" / "0001.py").write_text(VERSION)
    migrations, database = Config(), tmp_path / "app.db"
    migrations.set_main_option("script_location", str(tmp_path / "migrations"))
    migrations.set_main_option("sqlalchemy.url", f"sqlite:///{database}")
    command.upgrade(migrations, "head")
    have = len(copal.list_snapshots(database))
    # Nothing happens, which only who knows the table can know.
    command.upgrade(migrations, "head")
    assert len(copal.list_snapshots(database)) == have + (0 if tell else 1)
    have = len(copal.list_snapshots(database))
    command.downgrade(migrations, "base")
    assert len(copal.list_snapshots(database)) == have + 1


JOB = """
import sys
from datetime import timedelta
from copal.contrib.apscheduler import backup_job

print("ready", flush=True)
sys.stdin.readline()
print(backup_job(sys.argv[1], repository=sys.argv[2], unless_newer_than=timedelta(hours=12)), flush=True)
"""


def test_of_processes_at_one_instant_one_makes_the_backup(tmp_path: Path, repository: str, program: Any) -> None:
    pytest.importorskip("apscheduler")
    make("app.db", 1000)
    started = [program(JOB, str(tmp_path / "app.db"), repository) for _ in range(4)]
    assert [one.line() for one in started] == ["ready"] * 4
    for one in started:
        one.say("go")
    ended = [one.end() for one in started]
    assert [code for code, _, _ in ended] == [0] * 4, ended
    answers = [out.strip() for _, out, _ in ended]
    (made,) = copal.list_backups(tmp_path / "app.db", repository=repository)
    assert sorted(answers) == sorted(["None"] * 3 + [made.id])


def test_a_repository_that_is_away_is_not_asked_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    clock = FakeClock(NOON)
    scheduler = Scheduler([Job("app.db", "@daily", name="app", timezone="UTC")], clock=clock)
    work, asked = FakeWork(clock), []
    work.unreadable = copal.UnavailableError("no connection")
    newest = work.newest

    def count() -> Any:
        asked.append(clock.now())
        return newest()

    monkeypatch.setattr(work, "newest", count)
    # Not started: so nothing but the status asks.
    scheduler._works = {"app": work}  # type: ignore[dict-item]
    for _ in range(3):
        (job,) = scheduler.status(look_after=30.0).jobs
    assert len(asked) == 1
    assert job.problems == ("the repository could not be asked: no connection",)
    assert (job.protected, job.last_failure, job.consecutive_failures) == (False, None, 0)
    clock.advance(seconds=31)
    work.unreadable = None
    (job,) = scheduler.status(look_after=30.0).jobs
    assert (len(asked), job.problems) == (2, ("there is no backup yet",))
