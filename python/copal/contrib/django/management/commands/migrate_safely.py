"""``manage.py migrate_safely``."""

from __future__ import annotations

from typing import Any, Dict, List

import copal
from copal.contrib.django.databases import database_url
from copal.errors import CopalError
from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as Migrate
from django.db import connections
from django.db.migrations.executor import MigrationExecutor


class Command(Migrate):
    """``migrate`` with the same arguments, and a snapshot of the database before it."""

    help = "Updates the database schema as migrate does; if that fails, the database is put back to what it was."

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrates inside the safety snapshot, or without one if nothing will be changed."""
        alias = options["database"]
        if options.get("plan") or options.get("check_unapplied") or not self._is_pending(alias, options):
            super().handle(*args, **options)
            return
        more: Dict[str, Any] = getattr(settings, "COPAL", {})
        try:
            snapshot = copal.snapshot_before_migration(database_url(connections[alias].settings_dict), **more)
            # Some servers copy a database only while nobody is connected to it.
            connections.close_all()
            snapshot.__enter__()
        except CopalError as error:
            raise CommandError(f"nothing was migrated, since there is no snapshot: {error}") from error
        try:
            super().handle(*args, **options)
        except BaseException as error:
            connections.close_all()
            snapshot.__exit__(type(error), error, error.__traceback__)
            # What was done, which Python shows itself only in a traceback, and before 3.11 not at all.
            self.stderr.write("\n".join(getattr(error, "__notes__", [])))
            raise
        connections.close_all()
        snapshot.__exit__(None, None, None)

    @staticmethod
    def _is_pending(alias: str, options: Dict[str, Any]) -> bool:
        """Whether there is anything to do; what cannot be told is pending."""
        if options.get("app_label") or options.get("run_syncdb"):
            return True
        executor = MigrationExecutor(connections[alias])
        targets: List[Any] = executor.loader.graph.leaf_nodes()
        return bool(executor.migration_plan(targets))
