#!/usr/bin/env python3
"""Refuses what breaks the layers: dependencies that point up, I/O in core, engines that reach past the local-file
module, libraries that print, and long files without a reason. Prints each finding as `file:line: what`.
"""

import json
import os
import re
import subprocess
import sys

ENGINES = {"copal-sqlite", "copal-duckdb", "copal-postgres", "copal-mysql", "copal-memory"}
BELOW = {"copal-core", "copal-storage"}
ALLOWED = {
    "copal-core": set(),
    "copal-storage": set(),
    "copal-notify": {"copal-core"},
    "copal-repository": BELOW,
    "copal-file-engine": BELOW,
    **{engine: BELOW for engine in ENGINES},
    "copal-sqlite": BELOW | {"copal-file-engine"},
    "copal-duckdb": BELOW | {"copal-file-engine"},
    "copal": ENGINES | BELOW | {"copal-repository", "copal-notify"},
    "copal-cli": {"copal", "copal-daemon", "copal-notify"},
    "copal-daemon": {"copal", "copal-notify"},
    "copal-python": {"copal"},
}
# Dev-dependencies obey the same arrows, but for these: (crate, what its tests use) and why.
DEV_EXCEPTIONS = {
    ("copal-cli", "copal-storage"): "blackbox tests start the S3 server of its testkit",
    ("copal-cli", "copal-mysql"): "blackbox tests start the servers of its testkit",
    ("copal-cli", "copal-postgres"): "blackbox tests start the servers of its testkit",
    ("copal-daemon", "copal-storage"): "blackbox tests start the S3 server of its testkit",
}
CORE_MUST_NOT_DEPEND_ON = {"tokio", "object_store", "reqwest", "hyper", "rusqlite", "rustix", "libc", "tempfile"}
# What the local-file module's own signatures mention.
ENGINES_MAY_USE = {"local_file", "StorageError", "StorageErrorKind", "Result"}
MAY_PRINT = {"copal-cli"}
LONGEST = 600


def check_dependencies(packages):
    ours = {package["name"] for package in packages}
    for package in packages:
        name = package["name"]
        if name not in ALLOWED:
            yield f"{name}: not in the table of tools/check_layers.py; say there what it may depend on"
            continue
        for dependency in package["dependencies"]:
            other, is_dev = dependency["name"], dependency.get("kind") == "dev"
            if other in ours and other not in ALLOWED[name] and other != name:
                if not (is_dev and (name, other) in DEV_EXCEPTIONS):
                    yield f"{name} must not depend on {other}{' in its tests' if is_dev else ''}"
            if name == "copal-core" and not is_dev and other in CORE_MUST_NOT_DEPEND_ON:
                yield f"copal-core does no I/O, so it must not depend on {other}"


def code_only(text):
    """The text with comments and the insides of string and character literals blanked; lines stay where they are."""
    token = re.compile(
        r'//[^\n]*|(?P<block>/\*)|b?r(?P<hashes>#*)"(?s:.*?)"(?P=hashes)|b?"(?s:\\.|[^"\\])*"'
        r"|b?'(?:\\u\{[^}]*\}|\\.[^']*|[^'\\\n])'")
    pieces, at = [], 0
    while match := token.search(text, at):
        end = match.end()
        if match["block"]:  # block comments nest
            depth = 1
            for mark in re.compile(r"/\*|\*/").finditer(text, end):
                depth += 1 if mark[0] == "/*" else -1
                if not depth:
                    break
            end = mark.end() if not depth else len(text)
        pieces += [text[at:match.start()], re.sub(r"[^\n]", " ", text[match.start():end])]
        at = end
    return "".join(pieces) + text[at:]


def block_end(code, start):
    """Where the block or statement that begins behind `start` ends."""
    depth = 0
    for mark in re.compile(r"[{};]").finditer(code, start):
        depth += {"{": 1, "}": -1, ";": 0}[mark[0]]
        if depth == 0:
            return mark.end()
    return len(code)


def without_tests(code):
    """The code with everything under #[cfg(test)] blanked."""
    while match := re.search(r"#\[cfg\(\s*test\s*\)\]", code):
        end = block_end(code, match.end())
        code = code[:match.start()] + re.sub(r"[^\n]", " ", code[match.start():end]) + code[end:]
    return code


def line_of(code, position):
    return code.count("\n", 0, position) + 1


def group_members(code, root):
    """(position, first name) of every path below `root::`, also inside `root::{...}`."""
    for match in re.finditer(rf"\b{root}\s*::\s*(\{{|\w+|\*)", code):
        if match[1] != "{":
            yield match.start(), match[1]
            continue
        depth, expects_name = 1, True
        for part in re.compile(r"[{},]|\w+|\*").finditer(code, match.end()):
            if part[0] == "{":
                depth += 1
            elif part[0] == "}":
                depth -= 1
                if not depth:
                    break
            elif depth == 1 and part[0] == ",":
                expects_name = True
            elif depth == 1 and expects_name:
                yield part.start(), part[0]
                expects_name = False


def is_test_file(path):
    parts = path.split(os.sep)
    return "tests" in parts or "examples" in parts or "benches" in parts or parts[-1] in ("tests.rs", "build.rs")


def check_source(crate, path, text):
    """Findings in one file of a crate; `path` is relative to the crate's folder."""
    lines = text.count("\n")
    if lines > LONGEST and not any(line.startswith("//! Long because") for line in text.splitlines()[:10]):
        yield 1, f"{lines} lines; split it, or say at its head `//! Long because ...`"
    if is_test_file(path):
        return
    code = without_tests(code_only(text))
    if crate not in MAY_PRINT:
        for match in re.finditer(r"\b(?:e?print(?:ln)?|dbg)!", code):
            yield line_of(code, match.start()), f"a library prints nothing ({match[0]})"
    if crate == "copal-core":
        for position, name in group_members(code, "std"):
            if name in ("fs", "net", "process"):
                yield line_of(code, position), f"core does no I/O (std::{name})"
        for match in re.finditer(r"\b(?:tokio|object_store)\s*::", code):
            yield line_of(code, match.start()), f"core does no I/O ({match[0]})"
    if crate in ENGINES | {"copal-file-engine"}:
        for position, name in group_members(code, "copal_storage"):
            if name not in ENGINES_MAY_USE:
                yield line_of(code, position), f"engines use storage's local-file module only (copal_storage::{name})"
        for position, name in group_members(code, "object_store"):
            yield line_of(code, position), f"engines do not talk to object stores (object_store::{name})"


def check_workspace(root):
    metadata = subprocess.run(["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"], cwd=root,
                              check=True, stdout=subprocess.PIPE)
    packages = json.loads(metadata.stdout)["packages"]
    yield from check_dependencies(packages)
    for package in packages:
        folder = os.path.dirname(package["manifest_path"])
        for base, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name not in ("target", "node_modules", ".git")]
            for name in sorted(names):
                if name.endswith(".rs"):
                    path = os.path.join(base, name)
                    with open(path, encoding="utf-8") as file:
                        text = file.read()
                    for line, finding in check_source(package["name"], os.path.relpath(path, folder), text):
                        yield f"{os.path.relpath(path, root)}:{line}: {finding}"


def main():
    findings = list(check_workspace(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    for finding in findings:
        print(finding)
    print(f"layers: {len(findings)} finding(s)" if findings else "layers: sound")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
