"""tools/restore.py against repositories that tools/tests/writer.py makes: all content comes back, damage never does."""

import contextlib
import io
import os
import random
import shutil
import struct
import sys
import tempfile
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import restore  # noqa: E402
import writer  # noqa: E402

PASSPHRASE = "correct horse"
FIRST, SECOND = "20261120-153000Z-7f3a", "20261121-153000Z-0001"
PAGES = 2 * 4096 + 77


def sample(seed):
    """Three leaves of pages, a head, a short last page; and the same with a few changes and one page less."""
    rng = random.Random(seed)
    head, page_size = b"head of the file" * 6, 512
    pages = [rng.randbytes(24).ljust(page_size, b"x") for _ in range(PAGES)]
    first = head + b"".join(pages) + b"a short last page"
    for i in (0, 3, 4097, 8000):
        pages[i] = rng.randbytes(page_size)
    second = head + b"".join(pages[:-1])
    return first, second


def make(folder, **secrets):
    """A repository with a full backup, a backup of changed pages, and a second database; what its files hold."""
    repository = writer.Repository(folder, **secrets)
    sizes, shop = {}, writer.Database(repository, "shop")
    first, second = sample(1)
    dump = random.Random(2).randbytes(700_000) + bytes(1_500_000)
    backup = writer.Backup(shop, FIRST)
    base = backup.page_file("shop.db", first, 512, head_size=96, per_branch=2)
    backup.stream_file("extra/dump.sql", dump, chunks_per_leaf=9)
    backup.stream_file("empty", b"")
    backup.page_file("nothing.db", b"", 4096)
    backup.finish(sizes, label="first")
    later = writer.Backup(shop, SECOND)
    later.page_file("shop.db", second, 512, head_size=96, base=base, per_branch=2)
    later.finish(sizes, predecessor=FIRST)
    other = writer.Database(repository, "other", display="Another\x1b[2J")
    backup = writer.Backup(other, FIRST)
    backup.page_file("shop.db", second[:5000], 4096)
    backup.finish({})
    repository.put("databases/shop/backups/20261122-000000Z-ffff", b"")
    repository.put("databases/shop/backups/.staging", b"half")
    repository.put(f"databases/shop/marks/{FIRST}.pinned", b'{"time": "2026-11-20T16:00:00Z"}')
    return {FIRST: {"shop.db": first, "extra/dump.sql": dump, "empty": b"", "nothing.db": b""},
            SECOND: {"shop.db": second}}


def run(*arguments, passphrase=None):
    """Exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    environment = {"COPAL_PASSPHRASE": passphrase} if passphrase else {}
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), \
            mock.patch.dict(os.environ, environment), mock.patch.object(sys, "argv", ["restore.py", *arguments]):
        if not passphrase:
            os.environ.pop("COPAL_PASSPHRASE", None)
        code = restore.main()
    return code, out.getvalue(), err.getvalue()


def objects(folder, under):
    found = []
    for base, _, names in os.walk(os.path.join(folder, under)):
        found += [os.path.join(base, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if os.path.getsize(path))


class Case:
    """What holds with and without encryption."""

    secrets, passphrase = {}, None

    @classmethod
    def setUpClass(cls):
        cls.top = tempfile.mkdtemp()
        cls.pristine = os.path.join(cls.top, "pristine")
        cls.files = make(cls.pristine, **cls.secrets)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def setUp(self):
        self.repository = os.path.join(self.top, "repository")
        shutil.copytree(self.pristine, self.repository)
        self.target = os.path.join(self.top, "target")

    def tearDown(self):
        shutil.rmtree(self.repository)
        shutil.rmtree(self.target, ignore_errors=True)

    def run_with_secret(self, *arguments):
        return run(self.repository, *arguments, passphrase=self.passphrase)

    def restore(self, *arguments):
        return self.run_with_secret("restore", "shop", "--to", self.target, *arguments)

    def restored(self):
        found = {}
        for base, _, names in os.walk(self.target):
            for path in (os.path.join(base, name) for name in names):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, self.target)] = file.read()
        return found

    def assert_nothing_restored(self):
        left = [names for _, _, names in os.walk(self.target) if names]
        self.assertEqual(left, [])

    def test_restores_each_backup(self):
        for id, arguments in ((FIRST, ["--backup", FIRST]), (SECOND, [])):
            code, _, err = self.restore(*arguments)
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(self.restored(), self.files[id])
            self.assertFalse([name for name in os.listdir(self.target) if name.startswith(".")])
            shutil.rmtree(self.target)

    def test_lists_and_verifies(self):
        code, out, _ = self.run_with_secret("list")
        self.assertEqual(code, 0)
        self.assertRegex(out, f"{FIRST}  [0-9]+ bytes  pinned  first\n  {SECOND}")
        self.assertNotIn("ffff", out)
        self.assertNotIn("\x1b", out)
        self.assertEqual(self.run_with_secret("verify", "shop")[0], 0)

    def test_never_overwrites(self):
        self.assertEqual(self.restore()[0], 0)
        with open(os.path.join(self.target, "shop.db"), "wb") as file:
            file.write(b"precious")
        code, _, err = self.restore()
        self.assertEqual(code, 1)
        self.assertIn("exists already", err)
        with open(os.path.join(self.target, "shop.db"), "rb") as file:
            self.assertEqual(file.read(), b"precious")

    def test_wrong_usage(self):
        for arguments in (["restore", "nix", "--to", "x"], ["verify", "../shop"],
                          ["verify", "shop", "--backup", "20201120-153000Z-7f3a"]):
            self.assertEqual(self.run_with_secret(*arguments)[0], 2)
        self.assertEqual(run(self.top, "list")[0], 2)

    def assert_refused(self, path, what):
        name = os.path.basename(path)
        with self.subTest(name=name, what=what):
            codes = []
            for id in (FIRST, SECOND):
                code, _, error = self.restore("--backup", id)
                codes.append(code)
                if code == 4:
                    self.assertIn(name, error)
                    self.assert_nothing_restored()
                else:  # it does not need this object, or not this part of it: then it comes back whole
                    self.assertEqual((code, self.restored()), (0, self.files[id]), error)
                shutil.rmtree(self.target, ignore_errors=True)
            self.assertIn(4, codes)
            self.assertEqual(self.run_with_secret("verify", "shop")[0], 4)

    def damage(self, path, change, what):
        with open(path, "rb") as file:
            data = file.read()
        try:
            changed = change(data)
            if changed is None:
                os.remove(path)
            else:
                with open(path, "wb") as file:
                    file.write(changed)
            self.assert_refused(path, what)
        finally:
            with open(path, "wb") as file:
                file.write(data)

    def test_truncated_flipped_and_missing_packs(self):
        rng = random.Random(3)
        packs = objects(self.repository, "databases/shop/packs")
        self.assertGreater(len(packs), 5)
        for pack in packs:
            self.damage(pack, lambda data: data[:-1], "truncated")
        for pack in (packs[0], packs[-1]):
            self.damage(pack, lambda data: None, "missing")
            self.damage(pack, lambda data: data + b"\0", "longer")
            self.damage(pack, lambda data: b"", "empty")
            positions = [0, 8, 12, 13, 14, 16, 20] + [rng.randrange(8, os.path.getsize(pack)) for _ in range(12)]
            for at in positions:
                self.damage(pack, lambda data: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:],
                            f"bit of byte {at}")

    def test_swapped_packs(self):
        packs = objects(self.repository, "databases/shop/packs")
        with open(packs[1], "rb") as file:
            other = file.read()
        self.damage(packs[0], lambda data: other, "swapped")
        self.damage(packs[0], lambda data: (other + data)[:len(data)], "swapped, same length")

    def test_damaged_manifests_and_records(self):
        for name in (f"backups/{SECOND}", "database"):
            path = os.path.join(self.repository, "databases/shop", name)
            for at in (0, 8, 11, 20, 200, -40, -1):
                def flip(data):
                    at_ = min(at, len(data) - 50)
                    return data[:at_] + bytes([data[at_] ^ 4]) + data[at_:][1:]
                with open(path, "rb") as file:
                    data = file.read()
                for change in (flip, lambda data: data[:at]):
                    if not change(data):
                        continue  # an empty manifest is a tombstone
                    with open(path, "wb") as file:
                        file.write(change(data))
                    code, _, error = self.restore()
                    self.assertEqual(code, 4, f"{name} {at} {error}")
                    self.assertEqual(self.run_with_secret("list")[0], 4)
                    self.assert_nothing_restored()
                with open(path, "wb") as file:
                    file.write(data)

    def test_replayed_manifests_and_records(self):
        base = os.path.join(self.repository, "databases")
        for source, place in ((f"other/backups/{FIRST}", f"shop/backups/{FIRST}"),
                              (f"shop/backups/{SECOND}", f"shop/backups/{FIRST}"),
                              ("other/database", "shop/database")):
            shutil.copyfile(f"{base}/{source}", f"{base}/{place}")
            code, _, error = self.restore("--backup", FIRST)
            self.assertEqual(code, 4)
            self.assertIn("of another", error)
            shutil.rmtree(base)
            shutil.copytree(f"{self.pristine}/databases", base)

    def test_a_newer_format_asks_for_an_update(self):
        with open(f"{self.repository}/copal.json", "r+", encoding="utf-8") as file:
            text = file.read().replace('"format": 1', '"format": 2')
            file.seek(0)
            file.write(text)
        code, _, error = self.run_with_secret("list")
        self.assertEqual(code, 1)
        self.assertIn("update", error)


class Plain(Case, unittest.TestCase):
    def test_a_passphrase_that_is_not_needed_is_a_sign_of_tampering(self):
        self.assertEqual(run(self.repository, "list", passphrase="x")[0], 4)
        os.makedirs(f"{self.repository}/keys")
        shutil.copyfile(f"{self.repository}/copal.json", f"{self.repository}/keys/00000000.age")
        self.assertEqual(run(self.repository, "list")[0], 4)

    def test_needs_no_cryptography(self):
        with mock.patch.dict(sys.modules, {"cryptography": None, "pyrage": None}):
            self.assertEqual(self.restore()[0], 0)
        with mock.patch.dict(sys.modules, {"zstandard": None}):
            code, _, error = self.run_with_secret("list")
            self.assertEqual(code, 1)
            self.assertIn("pip install zstandard", error)

    def crafted(self, change):
        """A repository whose writer is hostile: change(backup) before its manifest is written."""
        folder = os.path.join(self.repository, "crafted")
        repository = writer.Repository(folder)
        backup = writer.Backup(writer.Database(repository, "shop"), FIRST)
        change(backup)
        backup.finish({})
        try:
            return run(folder, "restore", "shop", "--to", self.target)
        finally:
            shutil.rmtree(folder)

    def test_names_cannot_leave_the_folder(self):
        for name in ("../x", "/etc/x", "a/../../x", "a//b", "", ".", "a\\b", "c:x", "a\0b", "a\nb", 7, None):
            code, _, error = self.crafted(lambda backup: backup.stream_file(name, b"bytes"))
            self.assertEqual(code, 4, f"{name!r} {error}")
            self.assert_nothing_restored()

    def test_the_same_name_twice_is_refused(self):
        def twice(backup):
            backup.stream_file("a", b"1")
            backup.stream_file("a", b"2")
        self.assertEqual(self.crafted(twice)[0], 4)

    def test_hostile_sizes_allocate_nothing(self):
        def with_branch(content):
            def change(backup):
                backup.page_file("x", b"x" * 5000, 512)
                reference = backup.frame(3, content)
                backup.need(reference)
                backup.files[0]["branches"] = [list(reference)]
            return change

        def with_field(name, value):
            def change(backup):
                backup.page_file("x", b"x" * 5000, 512)
                backup.files[0][name] = value
            return change

        def bomb(backup):
            original = backup.database.repository.seal
            def seal(kind, content, key, nonce, associated, compress=True):
                if kind != 1:
                    return original(kind, content, key, nonce, associated, compress)
                body = writer.zstandard.ZstdCompressor().compress(bytes(1 << 28))
                frame = struct.pack("<BBHI", 1, 1, 0, len(content)) + body
                return frame + writer.blake3(associated + frame).digest()
            backup.database.repository.seal = seal
            backup.page_file("x", b"x" * 5000, 512)

        huge = struct.pack("<QIH", 0, 4096, 65535)
        for change in (
                with_branch(b""), with_branch(huge), with_branch(struct.pack("<QIH", 0, 4096, 0)),
                with_branch(struct.pack("<QI", 0, 0)), with_branch(struct.pack("<QI", 1, 1)),
                with_field("length", 1 << 62), with_field("length", -1), with_field("length", 4999),
                with_field("length", 1e300), with_field("page_size", 1 << 40), with_field("page_size", 0),
                with_field("branches", None), with_field("branches", [["x"]]), with_field("branches", []),
                with_field("digest", "zz"), with_field("digest", "00" * 32), with_field("head", "00"),
                with_field("kind", "stream"), with_field("kind", "other"), bomb):
            code, _, error = self.crafted(change)
            self.assertEqual(code, 4, error)
            self.assert_nothing_restored()


class Encrypted(Case, unittest.TestCase):
    secrets, passphrase = {"passphrase": PASSPHRASE}, PASSPHRASE

    @classmethod
    def setUpClass(cls):
        import pyrage
        cls.identity = pyrage.x25519.Identity.generate()
        cls.secrets = {"passphrase": PASSPHRASE, "recipient": str(cls.identity.to_public())}
        super().setUpClass()

    def test_passphrases(self):
        code, _, error = run(self.repository, "list", passphrase="wrong")
        self.assertEqual(code, 2)
        self.assertIn("passphrase", error)
        with open(f"{self.repository}/secret", "w", encoding="utf-8") as file:
            file.write(PASSPHRASE + "\n")
        self.assertEqual(run(self.repository, "--passphrase-file", file.name, "list")[0], 0)
        self.assertEqual(run(self.repository, "verify", "shop", "--passphrase-file", file.name)[0], 0)
        with mock.patch.object(sys, "stdin", io.StringIO()):
            self.assertEqual(run(self.repository, "list")[0], 2)

    def test_a_recovery_key(self):
        with open(f"{self.repository}/identity", "w", encoding="utf-8") as file:
            file.write(f"# recovery key\n{self.identity}\n")
        self.assertEqual(run(self.repository, "--identity", file.name, "restore", "shop", "--to", self.target)[0], 0)
        self.assertEqual(run(self.repository, "--identity", __file__, "list")[0], 2)

    def test_encryption_cannot_be_switched_off(self):
        path = f"{self.repository}/copal.json"
        with open(path, encoding="utf-8") as file:
            text = file.read()
        mac = text.split('"mac": "')[1][:64]
        for changed in (text.replace("aes-256-gcm", "none"), text.replace(mac, "0" * 64),
                        text.replace(f'"{mac}"', "null"), text.replace('"repository": "', '"repository": "0')):
            with open(path, "w", encoding="utf-8") as file:
                file.write(changed)
            self.assertEqual(self.run_with_secret("list")[0], 4, changed)
        shutil.rmtree(f"{self.repository}/keys")
        self.assertEqual(self.run_with_secret("list")[0], 4)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("aes-256-gcm", "none"))
        self.assertEqual(self.run_with_secret("list")[0], 4)
        self.assertEqual(run(self.repository, "list")[0], 4)  # nothing in it is sealed by a mere checksum

    def test_keys_of_another_repository_or_with_endless_work(self):
        path = f"{self.repository}/keys/0a1b2c3d.age"
        os.remove(path)
        with open(path, "wb") as file:
            plain = f"copal-repository-key 1\n{'0' * 32}\n{'0' * 64}\n".encode()
            file.write(writer.age_encrypt_with_passphrase(PASSPHRASE, plain))
        code, _, error = self.run_with_secret("list")
        self.assertEqual(code, 4)
        self.assertIn("another repository", error)
        with open(path, "wb") as file:
            file.write(b"age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 40\nxxxx\n--- y\n")
        self.assertEqual(self.run_with_secret("list")[0], 4)


if __name__ == "__main__":
    unittest.main()
