"""tools/restore.py and journals that tools/tests/writer.py makes: all of a chain comes back, or it is refused."""

import os
import shutil
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import writer  # noqa: E402
from test_restore import run  # noqa: E402

BASE, NEXT = "20261120-153000Z-7f3a", "20261121-000000Z-0000"
SEGMENTS = ["20261120-153001Z-ff00", "20261120-153001Z-ff01", "20261120-153002Z-0000"]


class Shop:
    """A backup with one stream, and segments that go on from it."""

    def __init__(self, folder, **secrets):
        self.folder = folder
        self.database = writer.Database(writer.Repository(folder, **secrets), "shop")
        backup = writer.Backup(self.database, BASE)
        backup.stream_file("rows", b"row\n" * 1000)
        self.hash, self.number = backup.finish({}), 0

    def append(self, id, files, **changes):
        segment = writer.Backup(self.database, id)
        for name, data in files.items():
            segment.stream_file(name, data)
        follows = {"base": BASE, "sequence": self.number, "hash": self.hash, **changes}
        self.hash, self.number = segment.finish_segment(**follows), self.number + 1

    def path(self, name):
        return os.path.join(self.folder, "databases", "shop", name)


class Journals(unittest.TestCase):
    def setUp(self):
        self.top = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.top)

    def shop(self, segments=3, **secrets):
        shop = Shop(os.path.join(self.top, f"repository-{len(os.listdir(self.top))}"), **secrets)
        for id in SEGMENTS[:segments]:
            shop.append(id, {"delta": id.encode() * 10, "parts/empty": b""})
        return shop

    def restore(self, shop, *arguments, **options):
        target = os.path.join(self.top, f"target-{len(os.listdir(self.top))}")
        code, out, err = run(shop.folder, "restore", "shop", "--to", target, *arguments, **options)
        files = {}
        for folder, _, names in os.walk(target):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    files[os.path.relpath(path, target)] = file.read()
        return code, files, err

    def refused(self, shop, object):
        code, files, err = self.restore(shop)
        self.assertEqual((code, files), (4, {}), err)
        self.assertIn(object, err)
        code, _, err = run(shop.folder, "verify", "shop", "--backup", BASE)
        self.assertEqual(code, 4, err)
        self.assertIn(object, err)
        self.assertEqual(run(shop.folder, "list")[0], 4)
        code, files, err = self.restore(shop, "--no-journal")
        self.assertEqual((code, list(files)), (0, ["rows"]), err)

    def test_all_segments_come_back_in_order(self):
        for secrets in ({}, {"passphrase": "correct horse"}):
            shop, options = self.shop(**secrets), secrets
            code, files, err = self.restore(shop, **options)
            self.assertEqual((code, err), (0, ""))
            expected = {"rows": b"row\n" * 1000}
            for number, id in enumerate(SEGMENTS, 1):
                expected[f"journal/{number}-{id}/delta"] = id.encode() * 10
                expected[f"journal/{number}-{id}/parts/empty"] = b""
            self.assertEqual(files, expected)
            self.assertIn("3 segments", run(shop.folder, "list", **options)[1])
            code, out, err = run(shop.folder, "verify", "shop", **options)
            self.assertEqual(code, 0, err)
            self.assertIn("sound, 4630 bytes, 3 segments", out)

    def test_a_missing_segment_is_refused(self):
        for gone in SEGMENTS[:2]:
            for empty in (False, True):
                shop = self.shop()
                os.remove(shop.path(f"journal/{gone}"))
                if empty:
                    open(shop.path(f"journal/{gone}"), "wb").close()
                self.refused(shop, "journal/" + SEGMENTS[SEGMENTS.index(gone) + 1])

    def test_a_flipped_or_truncated_segment_is_refused(self):
        for id in SEGMENTS:
            for change in (lambda data: data[:-1], lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]):
                shop = self.shop()
                with open(shop.path(f"journal/{id}"), "rb") as file:
                    data = file.read()
                with open(shop.path(f"journal/{id}"), "wb") as file:
                    file.write(change(data))
                self.refused(shop, f"journal/{id}")

    def test_exchanged_segments_are_refused(self):
        shop = self.shop()
        first, second = (shop.path(f"journal/{id}") for id in SEGMENTS[:2])
        os.rename(first, first + ".x")
        os.rename(second, first)
        os.rename(first + ".x", second)
        self.refused(shop, "journal/" + SEGMENTS[0])

    def test_a_chain_that_does_not_fit_is_refused(self):
        wrong = [{"hash": "0" * 64}, {"sequence": 5}, {"sequence": 0}, {"time": "2026-11-20T15:30:59.9Z"},
                 {"time": "yesterday"}, {"sequence": -1}, {"database": "0" * 32}, {"segment": SEGMENTS[0]}]
        for changes in wrong:
            with self.subTest(changes=changes):
                shop = self.shop(2)
                shop.append(SEGMENTS[2], {"delta": b"x"}, **changes)
                self.refused(shop, "journal/" + SEGMENTS[2])

    def test_two_segments_of_one_number_are_refused(self):
        shop = self.shop(1)
        hash = shop.hash
        shop.append(SEGMENTS[1], {"delta": b"one"})
        shop.append(SEGMENTS[2], {"delta": b"other"}, sequence=1, hash=hash)
        self.refused(shop, "journal/" + SEGMENTS[2])

    def test_another_manifest_under_the_journal_is_refused(self):
        shop = self.shop()
        os.remove(shop.path(f"backups/{BASE}"))
        backup = writer.Backup(shop.database, BASE)
        backup.stream_file("rows", b"other rows")
        backup.finish({})
        self.refused(shop, "journal/" + SEGMENTS[0])

    def test_what_the_next_backup_misses_is_said(self):
        for gone, follows in ((True, {}), (False, {"hash": "1" * 64})):
            shop = self.shop()
            backup = writer.Backup(shop.database, NEXT)
            backup.stream_file("rows", b"later")
            backup.finish({}, follows={"base": BASE, "sequence": 3, "hash": shop.hash, **follows})
            if gone:
                self.assertEqual(run(shop.folder, "verify", "shop")[0], 0)
                os.remove(shop.path(f"journal/{SEGMENTS[2]}"))
            code, files, err = self.restore(shop, "--backup", BASE)
            self.assertEqual((code, len(files)), (0, 5 if gone else 7))
            self.assertIn("Warning", err)
            self.assertEqual(run(shop.folder, "verify", "shop", "--backup", BASE)[0], 4)
            self.assertEqual(run(shop.folder, "verify", "shop", "--backup", NEXT)[0], 0)

    def test_segments_of_backups_that_are_gone_do_not_matter(self):
        shop = self.shop()
        backup = writer.Backup(shop.database, NEXT)
        backup.stream_file("rows", b"later")
        backup.finish({})
        with open(shop.path(f"backups/{BASE}"), "wb"):
            pass
        with open(shop.path(f"journal/{SEGMENTS[0]}"), "r+b") as file:
            file.truncate(30)
        code, files, err = self.restore(shop)
        self.assertEqual((code, files), (0, {"rows": b"later"}), err)


if __name__ == "__main__":
    unittest.main()
