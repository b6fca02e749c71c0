"""tools/restore.py --until: a journal up to a segment, whatever is wrong behind it."""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import test_restore_journal as journals  # noqa: E402

SEGMENTS = journals.SEGMENTS


class Until(unittest.TestCase):
    setUp, shop, restore = journals.Journals.setUp, journals.Journals.shop, journals.Journals.restore

    def flip(self, shop, id):
        with open(shop.path(f"journal/{id}"), "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))

    def names(self, files):
        return sorted({name.split("/")[1] for name in files if name.startswith("journal/")})

    def test_up_to_each(self):
        for number, id in enumerate(SEGMENTS, 1):
            code, files, err = self.restore(self.shop(), "--until", id)
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(self.names(files), [f"{n}-{s}" for n, s in enumerate(SEGMENTS[:number], 1)])

    def test_damage_behind_does_not_matter(self):
        for spoil in (self.flip, lambda shop, id: os.remove(shop.path(f"journal/{id}"))):
            shop = self.shop()
            spoil(shop, SEGMENTS[1])
            self.assertEqual(self.restore(shop)[0], 4)
            code, files, err = self.restore(shop, "--until", SEGMENTS[0])
            self.assertEqual((code, err, len(self.names(files))), (0, "", 1))
            code, files, err = self.restore(shop, "--until", SEGMENTS[2])
            self.assertEqual((code, files), (4, {}), err)
            self.assertIn("journal/", err)

    def test_what_is_not_there_is_wrong_usage(self):
        shop = self.shop()
        self.assertEqual(self.restore(shop, "--until", "20261120-153009Z-0000")[:2], (2, {}))
        self.flip(shop, SEGMENTS[2])
        self.assertEqual(self.restore(shop, "--until", SEGMENTS[2])[:2], (4, {}))

    def test_of_two_with_one_number_none_is_taken(self):
        shop = self.shop(1)
        hash = shop.hash
        shop.append(SEGMENTS[1], {"delta": b"one"})
        shop.append(SEGMENTS[2], {"delta": b"other"}, sequence=1, hash=hash)
        self.assertEqual(self.restore(shop, "--until", SEGMENTS[1])[:2], (4, {}))
        self.assertEqual(self.restore(shop, "--until", SEGMENTS[0])[0], 0)


if __name__ == "__main__":
    unittest.main()
