"""Where the databases of ``settings.DATABASES`` are, as URLs."""

from __future__ import annotations

import os
from typing import Any, Mapping
from urllib.parse import quote, urlencode

from copal.errors import UnsupportedError

#: By the last part of Django's backend: what the URL begins with.
_SCHEMES = {
    "sqlite3": "sqlite",
    "postgresql": "postgres",
    "postgis": "postgres",
    "spatialite": "sqlite",
    "mysql": "mysql",
}
#: Options of drivers that the server's URL has as well.
_OPTIONS = ("sslmode", "sslrootcert", "service")


def database_url(settings: Mapping[str, Any]) -> str:
    """The URL of one database; `UnsupportedError` if Copal has no engine for it."""
    backend = str(settings.get("ENGINE", "")).rpartition(".")[2]
    scheme = _SCHEMES.get(backend)
    if scheme is None:
        raise UnsupportedError(f"there is no engine for the backend {settings.get('ENGINE')!r}")
    name = os.fspath(settings["NAME"])
    if scheme == "sqlite":
        if name == ":memory:" or "mode=memory" in name:
            raise UnsupportedError("a database in memory has no file")
        return f"sqlite:{os.path.abspath(name)}"
    user, password = (quote(str(settings.get(key) or ""), safe="") for key in ("USER", "PASSWORD"))
    who = user + (f":{password}" if password else "")
    host, port = str(settings.get("HOST") or ""), str(settings.get("PORT") or "")
    options = {key: str(value) for key, value in dict(settings.get("OPTIONS") or {}).items() if key in _OPTIONS}
    if host.startswith("/"):
        # A folder of sockets.
        options["host"], host = host, ""
    elif ":" in host:
        host = f"[{host}]"
    if not host and scheme == "mysql":
        host = "localhost"
    place = (f"{who}@" if who else "") + host + (f":{port}" if port else "")
    return f"{scheme}://{place}/{quote(name, safe='')}" + (f"?{urlencode(options)}" if options else "")
