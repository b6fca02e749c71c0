#!/bin/sh
# Runs the page's tests in the system's Chromium against a real `copal serve`; arguments are test files. COPAL names the program,
# else it is the one that was built for the other tests. tools/prepare.sh installs what is needed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

skip() {
    echo "SKIPPED: the page is not tested: $1 (tools/prepare.sh)" >&2
    exit 0
}
for program in chromium chromium-browser google-chrome; do
    CHROMIUM=${CHROMIUM:-$(command -v "$program" || true)}
done
[ -n "$CHROMIUM" ] || skip "there is no Chromium"
command -v node >/dev/null || skip "there is no node"
node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)' \
    || skip "node $(node --version) is older than 20.19"
cmp -s "$here/package-lock.json" "$here/node_modules/package-lock.json" || skip "web/tests/node_modules is missing or old"

case ${CARGO_TARGET_DIR:=target} in
/*) ;;
*) CARGO_TARGET_DIR=$root/$CARGO_TARGET_DIR ;;
esac
COPAL=${COPAL:-$CARGO_TARGET_DIR/debug/copal}
COPAL_PICTURES=${COPAL_PICTURES:-$CARGO_TARGET_DIR/page-pictures}
[ -x "$COPAL" ] || {
    echo "$COPAL is missing: cargo build" >&2
    exit 1
}
export CHROMIUM COPAL COPAL_PICTURES
[ $# -gt 0 ] || set -- "$here"/*.test.mjs
exec timeout -k 30 1400 node --test --test-reporter=spec --test-concurrency="${COPAL_PAGE_JOBS:-2}" "$@"
