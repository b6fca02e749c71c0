#!/bin/sh
# Runs python/tests with the newest Python for which tools/prepare.sh has made an environment; arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
for version in 3.13 3.11; do
    python=.venv/python-$version/bin/python
    [ ! -x "$python" ] || exec timeout -k 30 1500 "$python" -m pytest -q -rs python/tests "$@"
done
echo "SKIPPED: the Python package is not tested: there is neither Python 3.13 nor 3.11 (tools/prepare.sh)" >&2
