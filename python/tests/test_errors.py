"""Errors by kind, and what they say."""

from __future__ import annotations

import concurrent.futures
import pathlib
import pickle
import sqlite3

import pytest
from test_backups import count, make

import copal
from copal import errors


def test_each_kind_has_its_class_and_exit_code() -> None:
    assert sorted(known.__name__ for known in errors._CLASSES.values()) == sorted(errors.__all__)
    for kind, known in errors._CLASSES.items():
        error = errors.from_description({"kind": kind, "message": "m", "causes": ["c"], "hint": "h", "exit_code": 7})
        assert type(error) is known and isinstance(error, copal.CopalError)
        assert (error.kind, error.message, error.causes, error.hint, error.exit_code) == (kind, "m", ("c",), "h", 7)
        assert str(error) == "m\nCaused by: c\nHint: h"
        copied = pickle.loads(pickle.dumps(error))
        assert type(copied) is known and copied.to_dict() == error.to_dict()
    unknown = errors.from_description({"kind": "of the future", "message": "m", "causes": [], "hint": None, "exit_code": 1})
    assert type(unknown) is copal.CopalError and unknown.kind == "of the future"
    assert issubclass(copal.TamperingError, copal.DamageError)
    assert issubclass(copal.PermissionDeniedError, PermissionError)
    assert copal.BusyError("m").is_retryable and not copal.UsageError("m").is_retryable
    assert copal.BusyError("m").exit_code == 5


def test_errors_cross_processes(repository: str) -> None:
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        failed = pool.submit(copal.list_backups, "nothing.db", repository=repository).exception()
    assert isinstance(failed, copal.NotFoundError) and failed.hint


def test_missing_things(repository: str) -> None:
    with pytest.raises(copal.NotFoundError) as caught:
        copal.backup("nothing.db", repository=repository)
    assert "nothing.db" in caught.value.message
    with pytest.raises(copal.NotFoundError, match="no repository"):
        copal.list_backups(repository="nowhere")
    with pytest.raises(copal.NotFoundError):
        copal.restore("nothing.db", repository=repository)
    with pytest.raises(copal.UnsupportedError):
        copal.backup("oracle://host/db", repository=repository)
    pathlib.Path("text").write_text("no database")
    with pytest.raises(copal.UnsupportedError):
        copal.backup("text", repository=repository)


def test_what_exists_is_not_replaced(repository: str) -> None:
    make("app.db", 10)
    copal.backup("app.db", repository=repository)
    with pytest.raises(copal.ExistsError):
        copal.restore("app.db", repository=repository)
    with pytest.raises(copal.ExistsError):
        copal.init(repository, encrypt=False)
    assert count("app.db") == 10


def test_passphrases() -> None:
    copal.init("sealed", passphrase="right")
    with pytest.raises(copal.PassphraseError) as caught:
        copal.list_backups(repository="sealed", passphrase="wrong secret")
    assert "wrong secret" not in str(caught.value) and "wrong secret" not in repr(caught.value)
    with pytest.raises(copal.PassphraseError):
        copal.list_backups(repository="sealed")
    with pytest.raises(copal.PassphraseError):
        copal.init("other", passphrase=None)
    # The child process gets it as well.
    make("app.db", 1)
    with pytest.raises(copal.PassphraseError):
        copal.backup("app.db", repository="sealed", passphrase="wrong")
    assert copal.backup("app.db", repository="sealed", passphrase="right").id


def test_secrets_are_never_shown() -> None:
    secrets = {"passphrase": "hush-1", "identity": "hush-2", "s3": {"secret_access_key": "hush-3"}}
    client = copal.Copal("s3://bucket/x", **secrets)  # type: ignore[arg-type]
    assert "hush" not in repr(client) and "hush" not in repr(copal.aio.Copal("r", passphrase="hush-1"))
    # A value of the wrong type is not quoted either.
    with pytest.raises(copal.UsageError) as caught:
        copal.Copal("s3://bucket/x", s3={"path_style": "hush-4"}).list_backups()
    assert "hush" not in str(caught.value)
    with pytest.raises(copal.CopalError) as failed:
        copal.backup("postgres://app:hush-5@127.0.0.1:1/db", repository="nowhere")
    assert "hush" not in str(failed.value)


def test_a_database_that_is_held_is_busy(repository: str) -> None:
    pathlib.Path("copal.toml").write_text('database_wait = "1s"\n')
    make("app.db", 1)
    holder = sqlite3.connect("app.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(copal.BusyError) as caught:
        copal.backup("app.db", repository=repository)
    assert caught.value.is_retryable and caught.value.exit_code == 5
    holder.close()
    assert copal.backup("app.db", repository=repository).id


def test_damage_is_found_and_named(repository: str) -> None:
    make("app.db", 1000)
    backup = copal.backup("app.db", repository=repository)
    (pack,) = pathlib.Path("repository/databases", backup.database, "packs").iterdir()
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    (verified,) = copal.verify("app.db", repository=repository)
    assert not verified.is_good and pack.name in verified.damaged[0].object
    with pytest.raises(copal.DamageError) as caught:
        copal.restore("app.db", to="copy.db", repository=repository)
    assert backup.id in str(caught.value) and not pathlib.Path("copy.db").exists()
    assert caught.value.exit_code == 4
    make("app.db", 1)
    assert copal.backup("app.db", repository=repository).id


def test_a_damaged_database_is_corrupt(repository: str) -> None:
    make("app.db", 1000)
    content = bytearray(pathlib.Path("app.db").read_bytes())
    content[100:110] = b"\xff" * 10
    pathlib.Path("app.db").write_bytes(content)
    with pytest.raises(copal.CopalError) as caught:
        copal.backup("app.db", repository=repository)
    assert caught.value.kind in ("corrupt", "failed")
    assert copal.list_databases(repository=repository) == [] or not copal.list_backups(repository=repository)
