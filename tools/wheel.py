#!/usr/bin/env python3
"""Makes the Python package out of the library that `cargo build` has made already, so that nothing is compiled for it.

Usage: wheel.py [--target FOLDER] --output FOLDER     a wheel, stripped; prints its path. Needs maturin and wheel in this Python
       wheel.py [--target FOLDER] --develop FOLDER    the package in a folder for PYTHONPATH, its Python files as links

FOLDER of --target is that of cargo's profile; without it, debug/ in CARGO_TARGET_DIR or target/. What is published is built by
`maturin build --release` in python/ instead.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = os.path.join(ROOT, "python")
PACKAGE = os.path.join(PYTHON, "copal")
MODULE = "_copal.abi3.so"


def library(target):
    """The path of the built library."""
    path = os.path.join(target, "lib_copal.so")
    if not os.path.exists(path):
        sys.exit(f"{path} is missing; cargo build --workspace --all-features makes it")
    return path


def put_library(source, folder):
    """Copies the library, without symbols if that can be done. In one step: a Python that has the old one loaded keeps it."""
    new = os.path.join(folder, f".{MODULE}.{os.getpid()}")
    strip = shutil.which("strip")
    if not strip or subprocess.run([strip, "--strip-unneeded", "-o", new, source]).returncode != 0:
        shutil.copyfile(source, new)
    os.chmod(new, 0o755)
    os.replace(new, os.path.join(folder, MODULE))


def develop(target, folder):
    """Lays the package out in a folder for PYTHONPATH."""
    package = os.path.join(folder, "copal")
    os.makedirs(package, exist_ok=True)
    for name in os.listdir(package):
        if os.path.islink(os.path.join(package, name)):
            os.unlink(os.path.join(package, name))
    for name in sorted(os.listdir(PACKAGE)):
        if name != "__pycache__" and not name.endswith(".so"):
            os.symlink(os.path.join(PACKAGE, name), os.path.join(package, name))
    put_library(library(target), package)
    return folder


def tag():
    """What the wheel fits: CPython 3.9 and later on this system."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"cp39-abi3-{platform}"


def wheel(target, output):
    """Packs a wheel and answers its path."""
    built = library(target)
    with tempfile.TemporaryDirectory() as scratch:
        unpacked, metadata = os.path.join(scratch, "unpacked"), os.path.join(scratch, "metadata")
        os.mkdir(metadata)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so")
        shutil.copytree(PACKAGE, os.path.join(unpacked, "copal"), ignore=ignored)
        put_library(built, os.path.join(unpacked, "copal"))
        # Metadata alone is written without compiling.
        command = [os.path.join(os.path.dirname(sys.executable), "maturin"), "pep517", "write-dist-info"]
        command += ["--metadata-directory", metadata, "--interpreter", sys.executable]
        subprocess.run(command, cwd=PYTHON, check=True, stdout=subprocess.DEVNULL)
        (info,) = os.listdir(metadata)
        shutil.copytree(os.path.join(metadata, info), os.path.join(unpacked, info))
        with open(os.path.join(unpacked, info, "WHEEL"), "w", encoding="utf-8") as file:
            file.write(f"Wheel-Version: 1.0\nGenerator: copal tools/wheel.py\nRoot-Is-Purelib: false\nTag: {tag()}\n")
        os.makedirs(output, exist_ok=True)
        packed = os.path.join(scratch, "packed")
        os.mkdir(packed)
        command = [sys.executable, "-m", "wheel", "pack", unpacked, "--dest-dir", packed]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (name,) = os.listdir(packed)
        return shutil.move(os.path.join(packed, name), os.path.join(output, name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.path.join(os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target"), "debug")
    parser.add_argument("--target", default=default, metavar="FOLDER")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", metavar="FOLDER")
    what.add_argument("--develop", metavar="FOLDER")
    arguments = parser.parse_args()
    target = os.path.abspath(arguments.target)
    if arguments.develop:
        print(develop(target, os.path.abspath(arguments.develop)))
    else:
        print(wheel(target, os.path.abspath(arguments.output)))


if __name__ == "__main__":
    main()
