"""The first table, with something in."""

from typing import Any

from django.db import migrations, models


def fill(apps: Any, editor: Any) -> None:
    """Writes notes."""
    note = apps.get_model("notes", "Note")
    note.objects.bulk_create(note(text=text) for text in ("buy milk", "call home", "make backups"))


class Migration(migrations.Migration):
    """Goes well."""

    operations = [
        migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True)), ("text", models.TextField())]),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
