"""What contrib/ has fits the metrics of the daemon, and what reads it takes it.

The metrics are those of crates/daemon/src/metrics/sample.txt, which a test of the daemon holds to what it says. promtool and
systemd-analyze look at the rest; where one of them is missing, its tests say so.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest

import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RULES = "contrib/prometheus/copal.rules.yml"
RULE_TESTS = "contrib/prometheus/copal.rules.test.yml"
DASHBOARD = "contrib/grafana/copal.json"
UNIT = "contrib/systemd/copal.service"
# What Prometheus adds to every sample, and its own series.
ADDED_LABELS = {"job", "instance"}
OTHER_METRICS = {"up"}
NAME = re.compile(r"\b(?:copal_\w+|up)\b")
# Grafana's variables as Prometheus gets them when everything is chosen.
EVERYTHING = ".*"
ODD_NAME = '"k\u00e4se" \\n\n{a="b"} 1'


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def sample():
    return text_of("crates/daemon/src/metrics/sample.txt")


def promtool():
    path = os.path.join(ROOT, ".venv", "promtool")
    return path if os.access(path, os.X_OK) else shutil.which("promtool")


PROMTOOL = promtool()
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
needs_promtool = unittest.skipUnless(PROMTOOL, "promtool is missing")
needs_systemd_analyze = unittest.skipUnless(SYSTEMD_ANALYZE, "systemd-analyze is missing")
for program, path in (("promtool", PROMTOOL), ("systemd-analyze", SYSTEMD_ANALYZE)):
    if not path:
        print(f"SKIPPED: {program} is missing, so nothing of contrib/ is tried with it (tools/prepare.sh)", file=sys.stderr)


def run(*command, stdin=None, cwd=None):
    done = subprocess.run(command, input=stdin, cwd=cwd, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


# --- What there is, and what is asked for ---


def families():
    """The labels of each metric: name -> (type, set of labels)."""
    found = {}
    for family in text_string_to_metric_families(sample()):
        for metric in family.samples:
            found.setdefault(metric.name, (family.type, set()))[1].update(metric.labels)
    return found


def without_strings(expression):
    return re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)


def findings(expression, known):
    """What an expression asks for that is not there."""
    bare = without_strings(expression)
    for name in NAME.findall(bare):
        if name not in known and name not in OTHER_METRICS:
            yield f"there is no metric {name}"
    every_label = ADDED_LABELS.union(*(labels for _, labels in known.values()))
    for name, matchers in re.findall(r"(\w*)\{([^}]*)\}", bare):
        labels = known[name][1] | ADDED_LABELS if name in known else every_label
        for label in re.findall(r"(\w+)\s*[=!]", matchers):
            if label not in labels and label != "__name__":
                yield f"{name or 'no metric'} has no label {label}"
    for labels in re.findall(r"\b(?:on|ignoring|by|without)\s*\(([^)]*)\)", bare):
        for label in re.findall(r"\w+", labels):
            if label not in every_label:
                yield f"nothing has the label {label}"


def rules(text):
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def findings_in_rules(text):
    """All that does not fit, in expressions and in what people are told."""
    known = families()
    for rule in rules(text):
        name = rule["alert"]
        yield from (f"{name}: {finding}" for finding in findings(rule["expr"], known))
        labels = ADDED_LABELS | set(rule["labels"])
        for metric in NAME.findall(without_strings(rule["expr"])):
            labels |= known.get(metric, (None, set()))[1]
        # `max without (kind)`: it is gone.
        labels -= {gone for group in re.findall(r"max without \(([^)]*)\)", rule["expr"]) for gone in group.split(", ")}
        for text in rule["annotations"].values():
            for label in re.findall(r"\$labels\.(\w+)", text):
                if label not in labels:
                    yield f"{name}: its words name {label}, which it does not have"


def panels():
    return json.loads(text_of(DASHBOARD))["panels"]


def queries():
    """The expressions of the dashboard with the title of their panel, its variables set to everything."""
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], re.sub(r"\$(instance|database)\b", EVERYTHING, target["expr"])


class Metrics(unittest.TestCase):
    def test_a_strict_reader_takes_them(self):
        names, of_family = [], None
        for line in sample().splitlines():
            if line.startswith("# HELP "):
                of_family = line.split(" ")[2]
                names.append(of_family)
            elif line.startswith("# TYPE "):
                self.assertEqual(line.split(" ")[2], of_family)
            else:
                self.assertEqual(re.match(r"\w+", line)[0], of_family)
        self.assertEqual(len(names), len(set(names)), "a family comes twice")
        self.assertEqual(set(families()), set(names), "a family has no sample")

    def test_names_are_as_prometheus_wants_them(self):
        for name, (kind, _) in families().items():
            self.assertRegex(name, r"^copal_[a-z]+(_[a-z]+)*$")
            self.assertEqual(kind == "counter", name.endswith("_total"), name)
            self.assertEqual("timestamp" in name, name.endswith("_timestamp_seconds"), name)

    def test_odd_names_arrive(self):
        databases = {metric.labels.get("database") for family in text_string_to_metric_families(sample())
                     for metric in family.samples}
        self.assertEqual(databases, {"analytics", "shop", ODD_NAME, None})

    @needs_promtool
    def test_promtool_finds_nothing_wrong(self):
        self.assertEqual(run(PROMTOOL, "check", "metrics", stdin=sample()), (0, ""))
        code, output = run(PROMTOOL, "check", "metrics", stdin=sample().replace("_lost_total", "_lost"))
        self.assertNotEqual(code, 0)
        self.assertIn('counter metrics should have "_total" suffix', output)


class Rules(unittest.TestCase):
    def test_they_ask_for_what_is_there(self):
        self.assertEqual(list(findings_in_rules(text_of(RULES))), [])

    def test_what_is_not_there_is_found(self):
        for old, new in (("copal_protected == 0", "copal_protect == 0"), ('{kind="damage"}', '{sort="damage"}'),
                         ("on (job, instance, database)", "on (job, instance, base)"),
                         ('{kind="drill-overdue"}', '{notifier="x"}'), ("$labels.notifier", "$labels.database")):
            with self.subTest(new):
                self.assertIn(old, text_of(RULES))
                self.assertNotEqual(list(findings_in_rules(text_of(RULES).replace(old, new))), [])

    def test_every_alert_is_complete(self):
        names = [rule["alert"] for rule in rules(text_of(RULES))]
        self.assertEqual(len(names), len(set(names)))
        for rule in rules(text_of(RULES)):
            self.assertRegex(rule["alert"], r"^Copal[A-Z]\w+$")
            self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
            self.assertEqual(set(rule["annotations"]), {"summary", "description"}, rule["alert"])

    def test_every_alert_is_tried_both_ways(self):
        tried = [case for test in yaml.safe_load(text_of(RULE_TESTS))["tests"] for case in test["alert_rule_test"]]
        for rule in rules(text_of(RULES)):
            alerts = [bool(case["exp_alerts"]) for case in tried if case["alertname"] == rule["alert"]]
            self.assertEqual(set(alerts), {True, False}, rule["alert"])

    @needs_promtool
    def test_promtool_takes_them(self):
        code, output = run(PROMTOOL, "check", "rules", os.path.join(ROOT, RULES))
        self.assertEqual(code, 0, output)

    @needs_promtool
    def test_they_alert_when_they_should(self):
        code, output = run(PROMTOOL, "test", "rules", os.path.join(ROOT, RULE_TESTS))
        self.assertEqual(code, 0, output)

    @needs_promtool
    def test_rules_that_changed_are_seen(self):
        for old, new in ((">= 3", ">= 2"), ("copal_protected == 0", "copal_protected == 1"), ("for: 10m", "for: 20m"),
                         ("severity: critical", "severity: warning")):
            with self.subTest(new), tempfile.TemporaryDirectory() as folder:
                shutil.copy(os.path.join(ROOT, RULE_TESTS), folder)
                with open(os.path.join(folder, os.path.basename(RULES)), "w", encoding="utf-8") as file:
                    file.write(text_of(RULES).replace(old, new, 1))
                code, output = run(PROMTOOL, "test", "rules", os.path.basename(RULE_TESTS), cwd=folder)
                self.assertNotEqual(code, 0)
                self.assertIn("FAILED", output)


class Dashboard(unittest.TestCase):
    def test_it_is_one_that_grafana_can_import(self):
        dashboard = json.loads(text_of(DASHBOARD))
        self.assertIsNone(dashboard["id"], "an id of its own would replace another dashboard")
        self.assertGreaterEqual(dashboard["schemaVersion"], 39)
        variables = {variable["name"] for variable in dashboard["templating"]["list"]}
        self.assertEqual(variables, {"datasource", "instance", "database"})
        ids = [panel["id"] for panel in panels()]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in panels():
            if panel["type"] != "row":
                self.assertEqual(panel["datasource"]["uid"], "${datasource}", panel["title"])
                self.assertTrue(panel["targets"] and panel["description"], panel["title"])
            for target in panel.get("targets", []):
                self.assertEqual(target["datasource"]["uid"], "${datasource}", panel["title"])

    def test_no_panel_lies_on_another(self):
        taken = {}
        for panel in panels():
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertEqual(taken.setdefault((x, y), panel["title"]), panel["title"])

    def test_it_asks_for_what_is_there(self):
        known = families()
        for title, query in queries():
            self.assertEqual(list(findings(query, known)), [], title)
            self.assertNotIn("$", query, f"{title}: a variable that nobody sets")
        for variable in json.loads(text_of(DASHBOARD))["templating"]["list"]:
            if variable["type"] == "query":
                query = re.match(r"label_values\((.*), (\w+)\)$", variable["query"]["query"])
                self.assertEqual(list(findings(query[1], known)), [])
                self.assertIn(query[2], {"instance", "database"})
        for name in re.findall(r"copal_\w+", text_of(DASHBOARD)):
            self.assertIn(name, known)

    def test_legends_and_columns_name_labels_that_are_there(self):
        known = families()
        for panel in panels():
            asked = [target["expr"] for target in panel.get("targets", [])]
            labels = [ADDED_LABELS.union(*(known[name][1] for name in NAME.findall(without_strings(query)))) for query in asked]
            for target, its in zip(panel.get("targets", []), labels):
                self.assertLessEqual(set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])), its, panel["title"])
            for change in panel.get("transformations", []):
                if change["id"] == "organize":
                    columns = set(change["options"]["renameByName"]) | set(change["options"]["excludeByName"])
                    values = {"Value"} if len(asked) == 1 else {f"Value #{target['refId']}" for target in panel["targets"]}
                    self.assertLessEqual(columns, set.union(*labels) | values | {"Time", "__name__"}, panel["title"])

    def test_every_metric_is_shown(self):
        shown = set(re.findall(r"copal_\w+", text_of(DASHBOARD)))
        self.assertEqual(sorted(set(families()) - shown), [])

    @needs_promtool
    def test_every_query_has_an_answer(self):
        """Prometheus is given the sample and asked everything."""
        series = []
        for family in text_string_to_metric_families(sample()):
            for metric in family.samples:
                labels = {**metric.labels, "job": "copal", "instance": "db1"}
                text = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())
                series.append({"series": f"{metric.name}{{{text}}}", "values": f"{metric.value:f}x5"})
        for extra, expected in ((None, 0), ("copal_protected < 0", 1)):
            asked = [query for _, query in queries()] + ([extra] if extra else [])
            cases = [{"expr": f"count({query}) > bool 0", "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": 1}]}
                     for query in asked]
            test = {"interval": "1m", "input_series": series, "promql_expr_test": cases}
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "test.yml")
                with open(path, "w", encoding="utf-8") as file:
                    yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}, file, allow_unicode=True)
                code, output = run(PROMTOOL, "test", "rules", path)
                self.assertEqual(code, expected, output)


class Unit(unittest.TestCase):
    def settings(self):
        pairs = (line.split("=", 1) for line in text_of(UNIT).splitlines() if "=" in line and not line.startswith("#"))
        return dict(pairs)

    def test_it_starts_and_stops_the_daemon_as_it_wants(self):
        settings = self.settings()
        self.assertEqual(settings["ExecStart"], "/usr/bin/copal serve --config /etc/copal/copal.toml")
        self.assertEqual(settings["Type"], "notify", "notify-reload needs systemd 253")
        self.assertEqual(settings["KillMode"], "mixed", "a signal to pg_dump would fail its backup")
        grace = re.search(r"grace: Duration::from_secs\((\d+)\)", text_of("crates/copal/src/config/daemon.rs"))[1]
        cancel = re.search(r"CANCEL_WAIT: Duration = Duration::from_secs\((\d+)\)", text_of("crates/daemon/src/runner.rs"))[1]
        minutes = int(re.fullmatch(r"(\d+)min", settings["TimeoutStopSec"])[1])
        self.assertGreater(minutes * 60, int(grace) + int(cancel))

    @needs_systemd_analyze
    def test_systemd_takes_it(self):
        def complaints(text):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "copal.service")
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                _, output = run(SYSTEMD_ANALYZE, "verify", path)
            # The program and the user are not installed where this is tested.
            expected = r"Command /usr/bin/copal is not executable: |(?i:user|group) .*copal.* (?i:not found|does not exist)"
            # Other units that it wants may have mistakes of their own.
            return [line for line in output.splitlines() if "copal.service" in line and not re.search(expected, line)]

        self.assertEqual(complaints(text_of(UNIT)), [])
        self.assertEqual(len(complaints(text_of(UNIT).replace("WatchdogSec", "WatchdogSecs"))), 1)


class Readme(unittest.TestCase):
    def test_it_tells_of_every_file(self):
        readme = text_of("contrib/README.md")
        for folder, _, names in os.walk(os.path.join(ROOT, "contrib")):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), os.path.join(ROOT, "contrib"))
                self.assertTrue(path == "README.md" or f"({path})" in readme, path)
        for link in re.findall(r"\]\(([^)#]+)\)", readme):
            self.assertTrue(os.path.exists(os.path.join(ROOT, "contrib", link)), link)

    def test_what_it_configures_fits(self):
        job = yaml.safe_load(re.search(r"^    scrape_configs:\n(?:    .*\n|\n)*", text_of("contrib/README.md"), re.M)[0])
        self.assertEqual(job["scrape_configs"][0]["job_name"], "copal", "the rules ask for this job")
        port = re.search(r"LOCALHOST, (\d+)", text_of("crates/copal/src/config/daemon.rs"))[1]
        self.assertIn(f"localhost:{port}", job["scrape_configs"][0]["static_configs"][0]["targets"])


if __name__ == "__main__":
    unittest.main()
