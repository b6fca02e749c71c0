#!/usr/bin/env python3
"""Refuses dependencies whose licence is not permissive, and crates in several incompatible versions that
tools/duplicates.allow does not excuse. Works offline; advisories are asked of cargo-deny or cargo-audit if installed.
"""

import collections
import json
import os
import re
import shutil
import subprocess
import sys

PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}


def is_permissive(expression):
    """Whether an SPDX expression can be satisfied with permissive licences alone. `/` is the old spelling of OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def one():
        if peek() == "(":
            take()
            value = either()
            if peek() != ")":
                raise ValueError(expression)
            take()
            return value
        if peek() in (None, ")", "AND", "OR", "WITH"):
            raise ValueError(expression)
        name = take()
        if peek() == "WITH":
            take()
            name += f" WITH {peek()}"
            take()
        return name in PERMISSIVE

    def both():
        value = one()
        while peek() == "AND":
            take()
            value = one() and value
        return value

    def either():
        value = both()
        while peek() == "OR":
            take()
            value = both() or value
        return value

    try:
        value = either()
    except (ValueError, IndexError):
        return False
    return value and position == len(tokens)


def compatible_series(version):
    """What Cargo holds for compatible: 1.4.2 -> 1, 0.3.7 -> 0.3, 0.0.5 -> 0.0.5."""
    major, minor, patch = re.match(r"(\d+)\.(\d+)\.(\d+)", version).groups()
    if major != "0":
        return major
    return f"0.{minor}" if minor != "0" else f"0.0.{patch}"


def read_excuses(text):
    """{crate: its versions} from lines `crate series series ...: reason`."""
    excuses = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        what, separator, reason = line.partition(":")
        if not separator or not reason.strip() or len(what.split()) < 3:
            raise ValueError(f"tools/duplicates.allow:{number}: not `crate version version: reason`")
        name, *series = what.split()
        excuses[name] = set(series)
    return excuses


def findings(packages, excuses):
    """(problems, notes) about the packages that `cargo metadata` names."""
    problems, notes = [], []
    series, versions = collections.defaultdict(set), collections.defaultdict(set)
    for package in packages:
        licence = package.get("license")
        if not licence or not is_permissive(licence):
            problems.append(f"{package['name']} {package['version']}: licence {licence or 'unknown'!r} is not on the list")
        series[package["name"]].add(compatible_series(package["version"]))
        versions[package["name"]].add(package["version"])
    for name, found in sorted(series.items()):
        if len(found) > 1 and (new := found - excuses.get(name, set())):
            problems.append(f"{name} in several versions ({', '.join(sorted(versions[name]))}): avoid it, or excuse "
                            f"{' '.join(sorted(new))} in tools/duplicates.allow")
    for name, excused in sorted(excuses.items()):
        if len(series[name]) < 2 or excused - series[name]:
            notes.append(f"tools/duplicates.allow: {name} {' '.join(sorted(excused))} is not needed any more")
    return problems, notes


def ask_advisories(root):
    """Problems that an installed advisory checker reports, and a note if there is none."""
    for program, command in (("cargo-deny", ["cargo", "deny", "check", "advisories"]),
                             ("cargo-audit", ["cargo", "audit"])):
        if shutil.which(program):
            result = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if result.returncode and re.search(r"failed to fetch|couldn't fetch|network", result.stdout):
                return [], [f"advisories: {program} could not fetch its database"]
            return ([result.stdout] if result.returncode else []), [f"advisories: asked {program}"]
    return [], ["advisories: neither cargo-deny nor cargo-audit is installed, not asked"]


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--offline", "--locked", "--all-features"], cwd=root,
        stdout=subprocess.PIPE)
    if metadata.returncode:
        print("licences: cargo metadata failed; run `cargo fetch --locked` once")
        return 1
    packages = json.loads(metadata.stdout)["packages"]
    with open(os.path.join(root, "tools", "duplicates.allow"), encoding="utf-8") as file:
        excuses = read_excuses(file.read())
    problems, notes = findings(packages, excuses)
    more_problems, more_notes = ask_advisories(root)
    for line in problems + more_problems + notes + more_notes:
        print(line)
    print(f"licences: {len(problems + more_problems)} problem(s)" if problems + more_problems
          else f"licences: {len(packages)} packages, all permissive, no new duplicates")
    return 1 if problems + more_problems else 0


if __name__ == "__main__":
    sys.exit(main())
