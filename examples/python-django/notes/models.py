"""What is kept."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """A note."""

    text: models.TextField[str, str] = models.TextField()
