"""``manage.py migrate_safely``: ``migrate`` with a snapshot before it, which is put back if it fails.

    INSTALLED_APPS = [..., "copal.contrib.django"]

Databases are those of ``settings.DATABASES``. The repository for engines without snapshots, and the passphrase, come
from ``copal.toml`` and the environment, or from ``settings.COPAL = {"repository": ...}``.
"""
