"""`copal serve` does what its OpenAPI document says: Schemathesis calls every operation, with what it allows and what it does not.

Nothing of it is random, so it is the same every time. COPAL names the program; without it, it is built.
"""

import collections
import http.client
import http.server
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOOKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "api_hooks.py")
ODD = "it's \"odd\"/\u00fc %2e #1?"
ROLES = ["viewer", "operator", "admin"]
# Each token may write 100 times at once: so many calls of one run are within the limit.
TOKENS = 40
PATIENCE = 60
EXAMPLES = 30


def program():
    if "COPAL" in os.environ:
        return os.path.abspath(os.environ["COPAL"])
    # All targets, as the other tests want them: --bins alone has other features and would be built a second time.
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--workspace", "--all-features", "--all-targets"], cwd=ROOT, check=True)
    return os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "debug", "copal")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes every notification."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


class Daemon:
    """A home with databases, backups and tokens, and `copal serve` in it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.program = program()
        self.receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=self.receiver.serve_forever, daemon=True).start()
        lines = ['[repository]', 'url = "repository"', '[daemon]', 'listen = "127.0.0.1:0"',
                 '[notify.ops]', f'webhook = "http://127.0.0.1:{self.receiver.server_port}/"', 'on = ["damage"]']
        for name, file in (("shop", "shop.db"), (ODD, "odd.db")):
            lines += [f"[databases.{json.dumps(name)}]", f'url = "sqlite:{self.path(file)}"', "keep = { last = 3 }"]
            with sqlite3.connect(self.path(file)) as db:
                db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
                db.executemany("INSERT INTO t (body) VALUES (randomblob(500))", [()] * 100)
            db.close()
        with open(self.path("copal.toml"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        self.copal("init", "--no-encrypt")
        self.copal("backup", "--all")
        self.snapshot = json.loads(self.copal("snap", "try", "--json"))["results"][0]["id"]
        self.tokens = {}
        for role in ROLES:
            for n in range(TOKENS if role == "admin" else 1):
                added = self.copal("token", "add", f"{role}-{n}", "--role", role, "--json")
                self.tokens.setdefault(role, []).append(json.loads(added)["results"][0]["token"])
        self.log = open(self.path("log"), "w+b")
        self.process = subprocess.Popen([self.program, "serve", "-v", "--config", "copal.toml"], cwd=self.folder.name,
                                        env=self.environment(), stdin=subprocess.DEVNULL, stderr=self.log)
        self.url = self.listens()
        self.address = urllib.parse.urlsplit(self.url).netloc

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def environment(self):
        home = self.folder.name
        return {"HOME": home, "PATH": os.environ["PATH"], "TZ": "UTC", "XDG_STATE_HOME": os.path.join(home, "state"),
                "XDG_CONFIG_HOME": os.path.join(home, "config"), "XDG_DATA_HOME": os.path.join(home, "data")}

    def copal(self, *arguments):
        done = subprocess.run([self.program, *arguments], cwd=self.folder.name, env=self.environment(), text=True,
                              capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise AssertionError(f"copal {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def said(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def listens(self):
        late = time.monotonic() + PATIENCE
        while time.monotonic() < late and self.process.poll() is None:
            if match := re.search(r"listening on (http://[0-9.:]+)\s", self.said()):
                return match[1]
            time.sleep(0.05)
        raise AssertionError(self.said())

    def ask(self, method, path, role="admin", body=None):
        """Status, headers and content."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {self.tokens[role][0]}"} if role else {}
        if body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path):
        status, _, content = self.ask("GET", path)
        if status != 200:
            raise AssertionError(f"GET {path}: {status} {content}")
        return json.loads(content)

    def stop(self):
        self.process.terminate()
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.log.close()
        self.receiver.shutdown()
        self.receiver.server_close()
        return code


def quoted(name):
    return urllib.parse.quote(name, safe="")


def is_stream(operation):
    return "text/event-stream" in operation["responses"].get("200", {}).get("content", {})


def with_real_names(document, values):
    """The document with what is there in the places of names: others are not refused but not found, and that is negative, too."""
    document = json.loads(json.dumps(document))
    for path, item in list(document["paths"].items()):
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    of = path.split("/")[2]
                    if parameter["name"] == "id" and of == "databases":
                        of = "backup" if "/backups/{id}" in path else "snapshot"
                    kind = {"type": parameter["schema"]["type"]}
                    parameter["schema"] = {**kind, "enum": values[of]}
        for method in [method for method, operation in item.items() if is_stream(operation)]:
            # It has no end; it is tried by hand.
            del item[method]
        if not item:
            del document["paths"][path]
    # Without tokens, a daemon needs none; this one has some.
    document["security"] = [{"token": []}]
    schemas = document["components"]["schemas"]
    schemas["SignIn"]["properties"]["token"] = {"type": "string", "enum": values["token"]}
    schemas["RestoreRequest"]["properties"]["to"] = {"type": ["string", "null"], "enum": [*values["to"], None]}
    # Any text that can be shown is a name, which no schema can say.
    for name in ("name", "label"):
        del schemas["SnapshotRequest"]["properties"][name]
    for schema, name, of in (("RewindBody", "snapshot", "snapshot"), ("RewindBody", "confirm", "databases"),
                             ("RemovalRequest", "confirm", "snapshot_names")):
        schemas[schema]["properties"][name] = {"type": "string", "enum": values[of]}
    schemas["PruneRequest"]["properties"]["deleted"]["items"] = {"type": "string", "enum": values["backup"]}
    for schema, word in (("RestoreRequest", ["latest"]), ("VerifyRequest", ["latest", "all"])):
        schemas[schema]["properties"]["backup"] = {"type": "string", "enum": word + values["backup"]}
    return document


CONFIGURATION = """
continue-on-failure = true
request-timeout = 60
hooks = {hooks}

[generation]
mode = "all"
max-examples = {examples}
deterministic = true
no-shrink = true
database = "none"
allow-x00 = true

[headers]
Connection = "close"

# A body of a restore may contradict itself: "at" beside "backup", or another database in "confirm". Nor is anything deleted or replaced
# during another run.
[[operations]]
include-path = ["/api/databases/{{name}}/restore", "/api/databases/{{name}}/restore/plan", "/api/databases/{{name}}/rewind",
                "/api/databases/{{name}}/prune"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409"]
"""


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.folder.cleanup)

    @classmethod
    def tearDownClass(cls):
        code = cls.daemon.stop()
        said = cls.daemon.said()
        secrets = [token for tokens in cls.daemon.tokens.values() for token in tokens]
        if code != 0 or "panicked" in said or any(secret in said for secret in secrets):
            raise AssertionError(f"exit code {code}\n{said[-5000:]}")

    def end_of(self, run):
        late = time.monotonic() + PATIENCE
        while time.monotonic() < late:
            record = self.daemon.get(f"/api/runs/{run}")["run"]
            if record["ending"]:
                return record
            time.sleep(0.05)
        self.fail(f"run {run} does not end")

    def values(self):
        """Names of what is there."""
        backups = []
        for name in ("shop", ODD):
            backups += [backup["id"] for backup in self.daemon.get(f"/api/databases/{quoted(name)}/backups")["backups"]]
        status, _, content = self.daemon.ask("POST", "/api/databases/shop/verify", body={})
        self.assertEqual(status, 202, content)
        run = json.loads(content)["run"]
        self.assertEqual(self.end_of(run)["ending"], "success")
        return {"databases": ["shop", ODD], "token": self.daemon.tokens["viewer"], "notifiers": ["ops"], "runs": [run], "backup": backups,
                "snapshot": [self.daemon.snapshot], "snapshot_names": ["try"],
                "to": [f"sqlite:{self.daemon.path(name)}" for name in ("one.db", "two.db")]}

    def test_every_operation_does_what_the_document_says(self):
        values = self.values()
        document = with_real_names(self.daemon.get("/api/openapi.json"), values)
        work = self.daemon.path("work")
        os.mkdir(work)
        files = {name: os.path.join(work, name) for name in ("openapi.json", "schemathesis.toml", "calls")}
        with open(files["openapi.json"], "w", encoding="utf-8") as file:
            json.dump(document, file)
        with open(files["schemathesis.toml"], "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(hooks=json.dumps(HOOKS), examples=EXAMPLES))
        environment = {**os.environ, "COPAL_API_TOKENS": " ".join(self.daemon.tokens["admin"]),
                       "COPAL_API_TARGETS": json.dumps(values["to"]), "COPAL_API_CALLS": files["calls"]}
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", files["schemathesis.toml"], "run",
                   files["openapi.json"], "--url", self.daemon.url, "--checks", "all", "--no-color",
                   "--phases", "examples,coverage,fuzzing"]
        done = subprocess.run(command, cwd=work, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL)
        output = done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, output)

        called = collections.defaultdict(collections.Counter)
        with open(files["calls"], encoding="utf-8") as file:
            for label, method, status in map(json.loads, file):
                called[label if label.startswith(method) else "other methods"][status] += 1
        operations = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
        self.assertEqual(operations, set(called) - {"other methods"})
        # The run that is known is over; others are cancelled by hand.
        for operation in operations - {"POST /api/runs/{id}/cancel"}:
            # It was not only refused.
            self.assertTrue([status for status in called[operation] if 200 <= status < 300], (operation, called[operation]))
        # Nor was it answered by limits that have nothing to do with the operations.
        answered = sum(called.values(), collections.Counter())
        self.assertGreater(answered.total(), 10 * len(operations))
        self.assertEqual([answered[status] for status in (408, 429, 431, 503)], [0, 0, 0, 0], called)

    def test_both_streams_are_of_events(self):
        document = self.daemon.get("/api/openapi.json")
        streams = {path for path, item in document["paths"].items() for operation in item.values() if is_stream(operation)}
        self.assertEqual(streams, {"/api/events", "/api/runs/{id}/events"})
        for path in ("/api/events", "/api/runs/7/events"):
            self.assertEqual(self.daemon.ask("GET", path, role=None)[0], 401)
        self.assertEqual(self.daemon.ask("GET", "/api/runs/7/events")[0], 404)
        everything = http.client.HTTPConnection(self.daemon.address, timeout=PATIENCE)
        self.addCleanup(everything.close)
        everything.request("GET", "/api/events", headers={"Authorization": f"Bearer {self.daemon.tokens['viewer'][0]}"})
        events = everything.getresponse()
        self.assertEqual((events.status, events.headers["Content-Type"]), (200, "text/event-stream"))
        status, _, content = self.daemon.ask("POST", f"/api/databases/{quoted(ODD)}/verify", "operator", {"drill": True})
        self.assertEqual(status, 202, content)
        run = json.loads(content)["run"]
        # That of a run ends by itself.
        _, _, content = self.daemon.ask("GET", f"/api/runs/{run}/events", "viewer")
        last = content.decode().strip().split("\n\n")[-1].splitlines()
        self.assertEqual(last[0], "event: run-ended")
        self.assertEqual(json.loads(last[1].removeprefix("data: "))["ending"], "success")
        seen = []
        while seen[-1:] != ["run-ended"]:
            line = events.readline().decode()
            self.assertTrue(line, f"it ended after {seen}")
            if line.startswith("event: run-"):
                name = line.removeprefix("event: ").strip()
                if json.loads(events.readline().decode().removeprefix("data: "))["id"] == run:
                    seen.append(name)
        self.assertEqual(seen, ["run-started", "run-ended"])


if __name__ == "__main__":
    unittest.main()
