"""What Schemathesis does besides when tools/tests/test_api.py runs it; the environment says how.

COPAL_API_TOKENS: tokens, one after the other for each call. COPAL_API_CALLS: a file for what was called and answered.
COPAL_API_TARGETS: the only places where a restore may write to.
"""

import itertools
import json
import os

import schemathesis
from urllib3.util import connection

TOKENS = itertools.cycle(os.environ["COPAL_API_TOKENS"].split())
TARGETS = json.loads(os.environ["COPAL_API_TARGETS"])
# Failed logins are counted by address, and this machine has many.
ADDRESSES = itertools.cycle(f"127.0.{i}.{j}" for i in range(1, 5) for j in range(1, 255))
create_connection = connection.create_connection


def from_another_address(address, *arguments, **options):
    options["source_address"] = (next(ADDRESSES), 0)
    return create_connection(address, *arguments, **options)


connection.create_connection = from_another_address


@schemathesis.auth(refresh_interval=None)
class Tokens:
    """Writes are counted by token: each call takes the next one."""

    def get(self, case, context):
        return next(TOKENS)

    def set(self, case, data, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.hook
def filter_case(context, case):
    """Whoever runs the tests may write to more places than tests should."""
    to = case.body.get("to") if isinstance(case.body, dict) else None
    return not isinstance(to, str) or not any(c in to for c in "/:") or to in TARGETS


@schemathesis.hook
def after_call(context, case, response):
    with open(os.environ["COPAL_API_CALLS"], "a", encoding="utf-8") as file:
        file.write(json.dumps([case.operation.label, response.request.method, response.status_code]) + "\n")
