"""Dockerfile, compose.yaml, .env.example and deploy/copal.toml agree with each other and with the files that are there.

No container engine is asked: what is checked here is what can be known without one.
"""

import glob
import json
import os
import re
import subprocess
import tempfile
import tomllib
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INSTRUCTIONS = set("ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME "
                   "WORKDIR".split())
# Of Compose's specification, as far as it is of use here.
TOP_LEVEL = {"name", "services", "volumes", "networks", "configs", "secrets"}
SERVICE = {"image", "build", "profiles", "restart", "command", "entrypoint", "environment", "volumes", "depends_on",
           "healthcheck", "ports", "networks", "user", "working_dir", "init", "stop_grace_period", "tmpfs", "read_only", "env_file"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(:?[?+-][^}]*)?\}|\$([A-Za-z_][A-Za-z0-9_]*)")
PINNED = re.compile(r"v?\d+\.\d+(\.\d+)?(-[\w.]+)?")


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


# --- The part of YAML that compose.yaml is written in. What it does not know is an error, so nothing is passed over. ---


class YamlError(ValueError):
    pass


KEY = re.compile(r"([A-Za-z_][\w.-]*):(?:\s+(.*))?$")


def yaml(text):
    """Block mappings and sequences, flow sequences, quoted and plain texts, `|` blocks and comments of whole lines."""
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line:
            raise YamlError(f"line {number}: a tab")
        lines.append((number, len(line) - len(line.lstrip(" ")), line.strip(), line))
    value, end = _block(lines, _next(lines, 0), 0)
    if _next(lines, end) < len(lines):
        raise YamlError(f"line {lines[_next(lines, end)][0]}: unexpected indentation")
    return value


def _next(lines, i):
    while i < len(lines) and (not lines[i][2] or lines[i][2].startswith("#")):
        i += 1
    return i


def _block(lines, i, indent):
    if i >= len(lines) or lines[i][1] < indent:
        return None, i
    indent, is_list = lines[i][1], lines[i][2].startswith("- ")
    result = [] if is_list else {}
    while (i := _next(lines, i)) < len(lines) and lines[i][1] == indent and lines[i][2].startswith("- ") == is_list:
        number, _, content, _ = lines[i]
        if is_list:
            value, i = _value(lines, i, content[2:].strip(), indent)
            result.append(value)
            continue
        match = KEY.match(content)
        if not match:
            raise YamlError(f"line {number}: not a key")
        if match[1] in result:
            raise YamlError(f"line {number}: {match[1]} for the second time")
        result[match[1]], i = _value(lines, i, match[2] or "", indent)
    if i < len(lines) and lines[i][1] > indent:
        raise YamlError(f"line {lines[i][0]}: unexpected indentation")
    return result, i


def _value(lines, i, text, indent):
    if text == "|":
        taken, i = [], i + 1
        while i < len(lines) and (not lines[i][2] or lines[i][1] > indent):
            taken.append(lines[i])
            i += 1
        margin = min(line[1] for line in taken if line[2])
        return "\n".join(line[3][margin:] for line in taken).rstrip("\n") + "\n", i
    if text:
        return _scalar(text, lines[i][0]), i + 1
    return _block(lines, _next(lines, i + 1), indent + 1)


def _scalar(text, number):
    if re.fullmatch(r"\[[\w-]+(, [\w-]+)*\]", text):
        return text[1:-1].split(", ")
    if text[0] in '["':
        try:
            return json.loads(text)
        except ValueError as error:
            raise YamlError(f"line {number}: {error}") from error
    if text[0] in "&*!|>{'%@`?-" or " #" in text or ": " in text or text.endswith(":"):
        raise YamlError(f"line {number}: not understood here: {text}")
    return {"true": True, "false": False, "null": None}.get(text, int(text) if text.isdecimal() else text)


# --- What the files say ---


def compose():
    return yaml(text_of("compose.yaml"))


def services():
    return compose()["services"]


def texts_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for part in value for text in texts_in(part)]
    return [value] if isinstance(value, str) else []


def variables_in(texts):
    return {match[1] or match[3] for text in texts for match in VARIABLE.finditer(text) if match[1] or match[3]}


def example():
    found = {}
    for number, line in enumerate(text_of(".env.example").splitlines(), 1):
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals and re.fullmatch(r"[A-Z][A-Z0-9_]*", name), f".env.example:{number}: {line}"
            assert name not in found, f".env.example:{number}: {name} for the second time"
            found[name] = value
    return found


def instructions():
    """The instructions of the Dockerfile: (word, the rest), continued lines joined and comments left out."""
    joined, result = "", []
    for line in text_of("Dockerfile").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        word, _, rest = (joined + line).strip().partition(" ")
        result.append((word, rest.strip()))
        joined = ""
    assert not joined, "the Dockerfile ends in the middle of an instruction"
    return result


def copies():
    """(stage or None, sources) of each COPY and ADD."""
    for word, rest in instructions():
        if word in ("COPY", "ADD"):
            parts = rest.split()
            stage = next((part.partition("=")[2] for part in parts if part.startswith("--from=")), None)
            yield stage, [part for part in parts if not part.startswith("--")][:-1]


def program():
    """The newest copal under cargo's target folder, if there is one."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
    found = [path for path in glob.glob(os.path.join(target, "*", "copal")) if os.access(path, os.X_OK)]
    return max(found, key=os.path.getmtime, default=None)


class Reader(unittest.TestCase):
    def test_it_reads_what_compose_files_are_made_of(self):
        text = '# c\na: 1\nb:\n  c: ["x, y", "z"]\n  d:\n    - e\n    - |\n      g\n        h\n  j: [k, l]\ni:\n'
        self.assertEqual(yaml(text), {"a": 1, "b": {"c": ["x, y", "z"], "d": ["e", "g\n  h\n"], "j": ["k", "l"]}, "i": None})

    def test_what_it_does_not_know_is_an_error(self):
        for text in ("a:\tb", "a: &x b", "a: {b: c}", "a: b\na: c", "a: b\n  c: d", "a: [b", "a: b # c", "a\n", "a: 'b'",
                     'a: "b" c'):
            with self.subTest(text), self.assertRaises(YamlError):
                yaml(text)


class Compose(unittest.TestCase):
    def test_all_keys_are_known(self):
        self.assertLessEqual(set(compose()), TOP_LEVEL)
        for name, service in services().items():
            self.assertLessEqual(set(service), SERVICE, name)

    def test_the_images_are_pinned(self):
        for name, service in services().items():
            with self.subTest(name):
                self.assertNotEqual("image" in service, "build" in service, "either pulled or built")
                if "image" in service:
                    self.assertRegex(service["image"].rpartition(":")[2], f"^{PINNED.pattern}$")

    def test_dependencies_are_services_that_can_meet_them(self):
        for name, service in services().items():
            for other, how in (service.get("depends_on") or {}).items():
                with self.subTest(f"{name} on {other}"):
                    self.assertIn(other, services())
                    self.assertNotEqual(other, name)
                    self.assertIn(how["condition"], CONDITIONS)
                    if how["condition"] == "service_healthy":
                        self.assertIn("healthcheck", services()[other])
                    if how["condition"] == "service_completed_successfully":
                        self.assertNotIn("restart", services()[other], "it would never be complete")
                    self.assertNotIn("profiles", services()[other], "it would not be started")

    def test_what_is_mounted_is_there(self):
        used = set()
        for service in services().values():
            for mount in service.get("volumes") or []:
                source, target = mount.split(":")[:2]
                self.assertTrue(target.startswith("/"), mount)
                if source.startswith("."):
                    self.assertTrue(os.path.exists(os.path.join(ROOT, source)), mount)
                else:
                    used.add(source)
        self.assertEqual(used, set(compose()["volumes"]))

    def test_what_is_built_has_a_dockerfile(self):
        for service in services().values():
            if "build" in service:
                self.assertTrue(os.path.isfile(os.path.join(ROOT, service["build"], "Dockerfile")))

    def test_the_configuration_is_mounted_where_copal_looks(self):
        copal = services()["copal"]
        self.assertIn(f"./deploy/copal.toml:{copal['environment']['COPAL_CONFIG']}:ro", copal["volumes"])
        self.assertEqual(copal["profiles"], ["tools"])

    def test_hosts_are_services(self):
        url = tomllib.loads(text_of("deploy/copal.toml"))["databases"]["shop"]["url"]
        self.assertIn(re.search(r"@([\w-]+):\d+/", url)[1], services())
        self.assertIn(re.fullmatch(r"http://([\w-]+):\d+", example()["S3_ENDPOINT"])[1], services())


class Variables(unittest.TestCase):
    def test_example_and_use_are_the_same(self):
        in_compose = variables_in(texts_in(compose()))
        in_copal = variables_in(texts_in(tomllib.loads(text_of("deploy/copal.toml"))))
        self.assertEqual(in_compose | in_copal, set(example()))
        self.assertEqual(in_copal - set(services()["copal"]["environment"]), set(), "the container would not have it")

    def test_every_variable_of_compose_must_be_set(self):
        for text in texts_in(compose()):
            for match in VARIABLE.finditer(text):
                if match[0] != "$$":
                    self.assertTrue((match[2] or "").startswith(":?"), f"{match[0]} would silently be empty")

    def test_the_example_has_no_secrets(self):
        for name, value in example().items():
            self.assertEqual(value == "", re.search("PASSWORD|PASSPHRASE|SECRET", name) is not None, name)


class Documentation(unittest.TestCase):
    TEXT = text_of("docs/deployment.md")

    def test_it_names_every_variable(self):
        self.assertEqual([name for name in example() if f"`{name}`" not in self.TEXT], [])

    def test_its_commands_exist(self):
        commands = set(re.findall(r"(?:--rm copal|\$COPAL) ([a-z]+)", self.TEXT))
        self.assertLessEqual({"init", "backup", "prune", "restore", "verify"}, commands)
        self.assertLessEqual(commands, set(re.findall(r"^## copal ([a-z]+)$", text_of("docs/cli.md"), re.M)))

    def test_its_links_lead_somewhere(self):
        for link in re.findall(r"\]\(([^)#]+)\)", self.TEXT):
            self.assertTrue(os.path.exists(os.path.join(ROOT, "docs", link)), link)


class Dockerfile(unittest.TestCase):
    def test_instructions_are_known(self):
        self.assertEqual([word for word, _ in instructions() if word not in INSTRUCTIONS], [])

    def test_images_have_tags_and_copies_name_stages(self):
        stages = []
        for word, rest in instructions():
            if word == "FROM":
                image, _, stage = rest.partition(" AS ")
                self.assertRegex(image, r"^[\w./-]+:(?!latest$)[\w.-]+$")
                stages.append(stage)
            elif word == "COPY" and "--from=" in rest:
                self.assertIn(re.search(r"--from=(\S+)", rest)[1], stages[:-1])

    def test_what_is_copied_is_there_and_reaches_the_build(self):
        ignore = [line for line in text_of(".dockerignore").splitlines() if line and not line.startswith("#")]
        self.assertEqual(ignore[0], "*")
        sources = {source for stage, sources in copies() if stage is None for source in sources}
        # What stands there without a mark is left out again.
        self.assertEqual(sources, {line.removeprefix("!") for line in ignore[1:] if line.startswith("!")})
        for source in sources:
            self.assertTrue(os.path.exists(os.path.join(ROOT, source)), source)

    def test_it_runs_copal_as_a_user(self):
        last = len(instructions()) - [word for word, _ in instructions()][::-1].index("FROM")
        final = dict(instructions()[last:])
        self.assertEqual(json.loads(final["ENTRYPOINT"]), ["copal"])
        self.assertNotIn(final["USER"], ("root", "0"))
        self.assertEqual(final["VOLUME"], services()["copal"]["volumes"][-1].split(":")[1])

    def test_the_client_is_not_older_than_the_server(self):
        client = int(dict(rest.split("=") for word, rest in instructions() if word == "ARG")["POSTGRES_MAJOR"])
        self.assertGreaterEqual(client, int(re.match(r"postgres:(\d+)", services()["db"]["image"])[1]))

    def test_the_package_is_the_one_with_the_program(self):
        package = re.search(r"-p (\S+)", text_of("Dockerfile"))[1]
        manifest = tomllib.loads(text_of("crates/cli/Cargo.toml"))
        self.assertEqual((manifest["package"]["name"], manifest["bin"][0]["name"]), (package, "copal"))


class Configuration(unittest.TestCase):
    def test_it_says_what_the_documentation_promises(self):
        document = tomllib.loads(text_of("deploy/copal.toml"))
        self.assertEqual(set(document), {"timezone", "repository", "databases"})
        self.assertTrue(document["repository"]["url"].startswith("s3://"))
        self.assertTrue(document["databases"]["shop"]["keep"])

    def list(self, configuration, folder, **more):
        """What `copal list` says in the environment of the container, with a repository that is not there."""
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "COPAL_PASSPHRASE": "x"}
        environment |= {name: value or "x" for name, value in example().items()} | more
        command = [program(), "list", "--json", "--config", configuration, "--repository", os.path.join(folder, "none")]
        run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return json.loads(run.stdout)["error"]

    @unittest.skipUnless(program(), "copal is not built; its configuration was read as TOML only")
    def test_the_program_accepts_it(self):
        path = os.path.join(ROOT, "deploy", "copal.toml")
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(self.list(path, folder)["kind"], "not-found", "there is no repository, and nothing else is wrong")
            self.assertEqual(self.list(path, folder, TIMEZONE="Nowhere/Else")["kind"], "configuration", "it was really read")
            wrong = os.path.join(folder, "copal.toml")
            with open(wrong, "w") as file:
                file.write(text_of("deploy/copal.toml").replace("keep =", "kepe ="))
            self.assertEqual(self.list(wrong, folder)["kind"], "configuration")


if __name__ == "__main__":
    unittest.main()
