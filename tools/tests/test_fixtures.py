"""tools/restore.py restores every frozen repository under tests/fixtures, byte for byte."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIXTURES = os.path.join(ROOT, "tests", "fixtures")
RESTORE = os.path.join(ROOT, "tools", "restore.py")


def fixtures():
    for version in sorted(os.listdir(FIXTURES)):
        folder = os.path.join(FIXTURES, version)
        if os.path.isdir(folder) and version.startswith("format-"):
            for kind in sorted(os.listdir(folder)):
                yield os.path.join(folder, kind)


class Fixtures(unittest.TestCase):
    def restore(self, *arguments, passphrase=None):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COPAL_")}
        if passphrase:
            environment["COPAL_PASSPHRASE"] = passphrase
        return subprocess.run([sys.executable, RESTORE, *arguments], env=environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)

    def test_every_backup_of_every_format_restores(self):
        restored = 0
        for folder in fixtures():
            with open(os.path.join(folder, "expected.json")) as file:
                expected = json.load(file)
            repository = os.path.join(folder, "repository")
            for backup, digest in expected["backups"].items():
                for by_identity in [False, True] if "identity" in expected else [False]:
                    with self.subTest(folder=folder, backup=backup), tempfile.TemporaryDirectory() as target:
                        arguments = [repository, "restore", expected["database"], "--backup", backup, "--to", target]
                        passphrase = None if by_identity else expected.get("passphrase")
                        if by_identity:
                            identity = os.path.join(target, "identity")
                            with open(identity, "w") as file:
                                file.write(expected["identity"])
                            arguments += ["--identity", identity]
                        run = self.restore(*arguments, passphrase=passphrase)
                        self.assertEqual(run.returncode, 0, run.stderr)
                        with open(os.path.join(target, "main.db"), "rb") as file:
                            self.assertEqual(hashlib.sha256(file.read()).hexdigest(), digest)
                        restored += 1
        self.assertGreaterEqual(restored, 9)

    def test_every_frozen_stream_restores(self):
        import blake3

        restored = 0
        for kind in ("plain", "encrypted"):
            folder = os.path.join(FIXTURES, "streams-1", kind)
            with open(os.path.join(folder, "expected.json")) as file:
                expected = json.load(file)
            repository, passphrase = os.path.join(folder, "repository"), expected.get("passphrase")
            run = self.restore(repository, "verify", expected["database"], passphrase=passphrase)
            self.assertEqual(run.returncode, 0, run.stderr)
            for backup, files in expected["backups"].items():
                with self.subTest(folder=folder, backup=backup), tempfile.TemporaryDirectory() as target:
                    arguments = [repository, "restore", expected["database"], "--backup", backup, "--to", target]
                    run = self.restore(*arguments, passphrase=passphrase)
                    self.assertEqual(run.returncode, 0, run.stderr)
                    for name, digest in files.items():
                        with open(os.path.join(target, name), "rb") as file:
                            self.assertEqual(blake3.blake3(file.read()).hexdigest(), digest)
                        restored += 1
        self.assertEqual(restored, 16)

    def test_every_frozen_journal_restores(self):
        import blake3

        restored = 0
        for kind in ("plain", "encrypted"):
            folder = os.path.join(FIXTURES, "journal-1", kind)
            with open(os.path.join(folder, "expected.json")) as file:
                expected = json.load(file)
            repository, passphrase = os.path.join(folder, "repository"), expected.get("passphrase")
            run = self.restore(repository, "verify", expected["database"], passphrase=passphrase)
            self.assertEqual(run.returncode, 0, run.stderr)
            for backup, saved in expected["backups"].items():
                with self.subTest(folder=folder, backup=backup), tempfile.TemporaryDirectory() as target:
                    arguments = [repository, "restore", expected["database"], "--backup", backup, "--to", target]
                    run = self.restore(*arguments, passphrase=passphrase)
                    self.assertEqual((run.returncode, run.stderr), (0, ""))
                    files = dict(saved["files"])
                    for number, segment in enumerate(saved["segments"], 1):
                        place = f"journal/{number}-{segment['id']}"
                        files.update({f"{place}/{name}": digest for name, digest in segment["files"].items()})
                    for name, digest in files.items():
                        with open(os.path.join(target, name), "rb") as file:
                            self.assertEqual(blake3.blake3(file.read()).hexdigest(), digest)
                        restored += 1
        # Of each repository: two backups; segments of two files, none and one, and of two files.
        self.assertEqual(restored, 2 * (2 + 3 + 2))

    def test_a_wrong_passphrase_opens_nothing(self):
        for folder in filter(lambda f: f.endswith("encrypted"), fixtures()):
            run = self.restore(os.path.join(folder, "repository"), "list", passphrase="wrong")
            self.assertEqual(run.returncode, 2, run.stderr)


if __name__ == "__main__":
    unittest.main()
