"""The repository by hand: python backups.py init | list | restore [--at TIME] [--to URL] [--replace]."""

import argparse
import os
import sys
from datetime import datetime
from pathlib import Path

import copal

CONFIGURATION = os.environ.get("COPAL_CONFIG", Path(__file__).parent / "copal.toml")


def main() -> int:
    """Reads the command line and does it."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="make the repository, encrypted with COPAL_PASSPHRASE")
    commands.add_parser("list", help="show the backups")
    restore = commands.add_parser("restore", help="bring the database back")
    restore.add_argument(
        "--at", type=datetime.fromisoformat, help="as it was then, 2026-11-20T18:00+01:00; else the newest backup"
    )
    restore.add_argument("--to", help="the URL of another database; else the original one")
    restore.add_argument("--replace", action="store_true", help="replace the database that is there")
    options = parser.parse_args()
    try:
        if options.command == "init":
            made = copal.init(os.environ["BACKUPS"], passphrase=os.environ["COPAL_PASSPHRASE"])
            sys.stdout.write(f"{made.repository}\n")
        elif options.command == "list":
            for backup in copal.list_backups("shop", config=CONFIGURATION):
                sys.stdout.write(f"{backup.id}  {backup.time:%F %T}  {backup.logical_bytes / 2**20:.1f} MiB\n")
        else:
            done = copal.restore("shop", at=options.at, to=options.to, replace=options.replace, config=CONFIGURATION)
            sys.stdout.write(f"restored {done.id} to {done.target}\n")
    except copal.CopalError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
