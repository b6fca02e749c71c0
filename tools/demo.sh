#!/bin/sh
# A live SQLite database is backed up while it is written to, backed up again, damaged, restored and proven equal.
# Works in a folder of its own and removes it. Needs python3; `make demo` builds the program first.
set -eu
cd "$(dirname "$0")/.."
COPAL=$(realpath "${COPAL:-target/debug/copal}")
LEDGER=$(realpath tools/demo_ledger.py)

work=$(mktemp -d "${TMPDIR:-/tmp}/copal-demo.XXXXXX")
writer=
finish() {
    code=$?
    [ -z "$writer" ] || kill "$writer" 2>/dev/null || true
    [ -z "$writer" ] || wait "$writer" 2>/dev/null || true
    rm -rf "$work"
    [ "$code" -eq 0 ] || printf '\nThe demo failed (exit code %s).\n' "$code" >&2
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Nothing of the user's own: no configuration, no repository, no variables.
for variable in $(env | sed -n 's/^\(COPAL_[A-Z_]*\)=.*/\1/p'); do unset "$variable"; done
export HOME="$work" XDG_DATA_HOME="$work/data" XDG_STATE_HOME="$work/state" XDG_CONFIG_HOME="$work/config"
cd "$work"

say() { printf '\n%s\n' "$*"; }
copal() {
    printf '  $ copal'
    for word in "$@"; do
        case $word in *' '*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    echo
    "$COPAL" "$@" >"$work/out" 2>&1 && code=0 || code=$?
    sed 's/^/    /' "$work/out"
    return "$code"
}
ledger() {
    python3 "$LEDGER" "$@" >"$work/out" 2>&1 && code=0 || code=$?
    sed 's/^/    /' "$work/out"
    return "$code"
}

say "1. A ledger in SQLite: accounts, a log of every transfer, and 400 MB of documents."
ledger make app.db

say "2. An encrypted repository (a real passphrase would not come from a generator in a shell script)."
(umask 077 && head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >passphrase)
export COPAL_PASSPHRASE_FILE="$work/passphrase"
copal init -d sqlite:app.db

say "3. Another process now transfers money all the time, in transactions, and does not stop for us."
python3 "$LEDGER" write app.db &
writer=$!
sleep 1
ledger progress app.db
say "4. The first backup, while it writes."
copal backup app
ledger progress app.db

say "5. A second backup: only pages that changed are stored."
sleep 1
ledger progress app.db before
copal backup app --label "before the accident"
copal list app

kill "$writer" && wait "$writer" 2>/dev/null || true
writer=
say "6. The writer has ended. What it committed is noted elsewhere, to compare with."
ledger remember app.db reference

say "7. The accident: a disk writes rubbish into the middle of the file."
ledger damage app.db
if ledger check app.db; then
    echo "The database should be damaged, and is not." >&2
    exit 1
fi

say "8. Back to the newest backup."
copal restore app --replace

say "9. Proof: everything committed up to the backup is there, in order, and nothing else."
ledger check app.db
ledger compare app.db reference before

say "10. The same proof without an accident: restored to a scratch place, checked, compared, removed."
copal verify --drill

say "Done. Nothing of this is left on your machine."
