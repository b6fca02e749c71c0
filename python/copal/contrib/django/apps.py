"""The application, for ``INSTALLED_APPS``."""

from django.apps import AppConfig


class CopalConfig(AppConfig):
    """Commands only: it has no models."""

    name = "copal.contrib.django"
    label = "copal"
    verbose_name = "Copal"
