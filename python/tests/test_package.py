"""What the package is: what importing it loads, what is public, schedules, and the wheel in clean environments."""

from __future__ import annotations

import ast
import datetime
import inspect
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from typing import Iterator, List, Optional

import pytest
from conftest import PYTHON, TARGET, wheel_tool

import copal
from copal import _copal

UTC = datetime.timezone.utc


def test_importing_it_loads_next_to_nothing() -> None:
    code = "import sys; before = set(sys.modules); import copal; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    heavy = {"asyncio", "dataclasses", "json", "logging", "inspect", "subprocess", "tempfile", "sqlite3", "threading"}
    loaded = set(done.stdout.split())
    assert "copal" in loaded and not loaded & (heavy | {"copal._copal", "copal.client"}), loaded
    # And what calls need is not asyncio.
    code = "import sys, copal; copal.backup; print('asyncio' in sys.modules, 'copal._copal' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "False True\n"


def test_all_that_is_public_is_there() -> None:
    for name in copal.__all__:
        assert getattr(copal, name) is not None and name in dir(copal)
        # `Source` is a union of types, which has no text of its own in every Python.
        assert name == "Source" or getattr(copal, name).__doc__, f"{name} says nothing about itself"
    assert copal.__version__ == _copal.__version__
    with pytest.raises(AttributeError):
        assert copal.nothing  # type: ignore[attr-defined]
    # The names that type checkers see are those that there are.
    tree = ast.parse((PYTHON / "copal" / "__init__.py").read_text())
    seen = {
        alias.asname or alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert seen == set(copal.__all__)
    from copal import aio, functions

    shared = {name for name, value in vars(functions).items() if getattr(value, "__module__", "") == functions.__name__}
    assert shared == set(aio.__all__) - {"Copal"}


def test_coroutines_take_what_methods_and_functions_take() -> None:
    from copal import aio, functions

    for ours, theirs in ((copal.Copal, aio.Copal), (functions, aio)):
        names = [name for name in aio.__all__ if name != "Copal"] if ours is functions else list(vars(theirs))
        for name in names:
            if not name.startswith("_"):
                assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(theirs, name)), name
    assert {name for name in vars(aio.Copal) if not name.startswith("_")} == {
        name for name in vars(copal.Copal) if not name.startswith("_")
    }


def test_the_stub_says_what_there_is() -> None:
    stub = ast.parse((PYTHON / "copal" / "_copal.pyi").read_text())
    named = {part.name: part for part in stub.body if isinstance(part, (ast.ClassDef, ast.FunctionDef))}
    there = {name for name in dir(_copal) if not name.startswith("_")}
    assert set(named) == there
    for name, part in named.items():
        if isinstance(part, ast.ClassDef) and name != "Failure":
            methods = {one.name for one in part.body if isinstance(one, ast.FunctionDef)}
            assert {one for one in methods if not one.startswith("_")} == {one for one in dir(getattr(_copal, name)) if not one.startswith("_")}


def test_schedules() -> None:
    after = datetime.datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
    assert copal.next_run("0 0 * * *", after, "Europe/Berlin") == datetime.datetime(2026, 11, 21, 23, tzinfo=UTC)
    assert copal.next_run("every 5m", after) == datetime.datetime(2026, 11, 21, 12, 35, tzinfo=UTC)
    now = copal.next_run("every 1h")
    assert now is not None and now > datetime.datetime.now(UTC)
    for wrong in ("daily", "60 * * * *", "every 0s", ""):
        with pytest.raises(copal.UsageError):
            copal.next_run(wrong)
    with pytest.raises(copal.UsageError):
        copal.next_run("@daily", after, "Europe/Atlantis")
    with pytest.raises(copal.UsageError):
        copal.next_run("@daily", after.replace(tzinfo=None))


def test_a_configuration() -> None:
    pathlib.Path("copal.toml").write_text(
        """
timezone = "Europe/Berlin"
[databases.shop]
url = "postgres://app:hush@db1/shop"
schedule = "0 3 * * *"
keep = { last = 10, within = "5d" }
max_age = "36h"
[databases.file]
url = "app.db"
on_change = true
timezone = "UTC"
"""
    )
    found = copal.configuration()
    assert found.path == os.path.abspath("copal.toml") and set(found.databases) == {"shop", "file"}
    shop, file = found.databases["shop"], found.databases["file"]
    assert shop.source == "postgres://app@db1/shop" and "hush" not in repr(found)
    assert shop.keep == copal.Keep(last=10, within=datetime.timedelta(days=5))
    assert shop.max_age == datetime.timedelta(hours=36) and shop.timezone == "Europe/Berlin"
    assert file.on_change and file.schedule is None and file.keep is None and file.timezone == "UTC"
    pathlib.Path("copal.toml").write_text("[databases.shop]\nurl = 'x'\nshcedule = '@daily'\n")
    with pytest.raises(copal.ConfigurationError, match="schedule"):
        copal.configuration()
    os.unlink("copal.toml")
    assert copal.configuration() == copal.schedule.Configuration(None, None, {})  # type: ignore[attr-defined]


# The wheel

SCRIPT = '''
import datetime
import pathlib
import sqlite3

import copal


def main(folder: pathlib.Path) -> None:
    connection = sqlite3.connect(folder / "app.db")
    connection.execute("CREATE TABLE t (n)")
    connection.commit()
    copal.init(folder / "repository", passphrase="correct horse")
    client = copal.Copal(folder / "repository", passphrase="correct horse")

    def tell(progress: copal.Progress) -> None:
        assert progress.done_bytes >= 0

    backup: copal.Backup = client.backup(connection, label="first", progress=tell)
    size: int = backup.logical_bytes
    when: datetime.datetime = backup.time
    restored = client.restore(folder / "app.db", to=folder / "copy.db")
    assert size > 0 and when.tzinfo is not None and restored.id == backup.id
    ids: "list[str]" = [one.id for one in client.list_backups()]
    client.prune(folder / "app.db", keep={"last": 1})
    with copal.snapshot_before_migration(folder / "app.db") as net:
        assert net.snapshot is not None
    try:
        client.show("nothing")
    except copal.NotFoundError as error:
        print(error.kind, len(ids), copal.next_run("@daily") is not None)


async def later(client: copal.aio.Copal) -> "list[copal.Verified]":
    return await client.verify(drill=True)


if __name__ == "__main__":
    main(pathlib.Path.cwd())
'''


def interpreter(version: str) -> Optional[str]:
    """A Python of this version, on PATH or among pyenv's."""
    for path in [shutil.which(f"python{version}"), *sorted(pyenv(version), reverse=True)]:
        if path is None:
            continue
        try:
            asked = subprocess.run([path, "-c", "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.')"],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        except OSError:
            continue
        if asked.returncode == 0 and asked.stdout.strip() == version:
            return path
    return None


def pyenv(version: str) -> Iterator[str]:
    root = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path("~").expanduser() / ".pyenv")
    return (str(path) for path in root.glob(f"versions/{version}.*/bin/python"))


@pytest.fixture(scope="module")
def real_home() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_dir


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("maturin")
    if shutil.which("maturin", path=os.path.dirname(sys.executable)) is None:
        pytest.skip("SKIPPED: maturin is missing (tools/prepare.sh)")
    return str(wheel_tool().wheel(str(TARGET), str(tmp_path_factory.mktemp("wheel"))))


def test_the_wheel_has_what_belongs_in_it(wheel: str) -> None:
    assert os.path.getsize(wheel) <= 15_000_000
    assert os.path.basename(wheel).startswith(f"copal-{copal.__version__}-cp39-abi3-linux_")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        metadata = packed.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    for name in ("copal/_copal.abi3.so", "copal/_copal.pyi", "copal/py.typed", "copal/__init__.py", "copal/aio.py"):
        assert name in names
    assert not [name for name in names if "test" in name or name.endswith(".pyc") or name.endswith(".rs")]
    assert "Requires-Python: >=3.9" in metadata and "Requires-Dist" not in metadata and "Name: copal" in metadata


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_the_wheel_in_a_clean_environment(
    wheel: str,
    version: str,
    real_home: str,
    mypy_cache: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", real_home)
    python = interpreter(version)
    if python is None:
        pytest.skip(f"SKIPPED: there is no Python {version} here")
    monkeypatch.delenv("PYTHONPATH")
    clean = str(tmp_path / "clean")
    # A pip of its own would take longer than all the rest; this one's is run by the other Python.
    subprocess.run([python, "-m", "venv", "--without-pip", clean], check=True)
    inside = os.path.join(clean, "bin", "python")
    pip = [sys.executable, "-m", "pip", "--python", inside, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-index", wheel], check=True)
    (tmp_path / "script.py").write_text(SCRIPT)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(work))
    done = subprocess.run([inside, tmp_path / "script.py"], cwd=work, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "not-found 1 True\n"
    pytest.importorskip("mypy")
    command: List[str] = [sys.executable, "-m", "mypy", "--strict", "--python-executable", inside]
    command += ["--cache-dir", mypy_cache, str(tmp_path / "script.py")]
    checked = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_package_itself_is_typed(mypy_cache: str) -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", mypy_cache, str(PYTHON / "copal")]
    checked = subprocess.run(command, cwd=PYTHON, stdout=subprocess.PIPE, text=True)
    assert checked.returncode == 0, checked.stdout
