"""A migration with a mistake: it deletes notes, and fails after that."""

from typing import Any

from django.db import migrations


def delete(apps: Any, editor: Any) -> None:
    """Destroys something. Without a transaction, as large migrations do, this stays."""
    apps.get_model("notes", "Note").objects.filter(text__startswith="b").delete()


def fail(apps: Any, editor: Any) -> None:
    """The mistake."""
    raise RuntimeError("this migration has a mistake")


class Migration(migrations.Migration):
    """Fails half way."""

    atomic = False
    dependencies = [("notes", "0001_initial")]
    operations = [
        migrations.RunPython(delete, migrations.RunPython.noop),
        migrations.RunPython(fail, migrations.RunPython.noop),
    ]
