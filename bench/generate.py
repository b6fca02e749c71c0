#!/usr/bin/env python3
"""Makes a SQLite database of a given size with realistic rows; the same arguments give the same rows.

A shop: customers, products, orders with JSON, order lines, and a log. Numbers, dates, identifiers and texts
are mixed so that `zstd -3` leaves 40-45 % of the file. WAL mode, 4 KiB pages, indexes, no free pages.

    generate.py --size 1GiB base.db
"""

import argparse
import json
import os
import random
import re
import sqlite3
import sys
import time

SCHEMA = """
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, uuid TEXT NOT NULL, name TEXT NOT NULL, email TEXT NOT NULL, phone TEXT,
    address TEXT NOT NULL, created_at TEXT NOT NULL, balance REAL NOT NULL, profile TEXT NOT NULL);
CREATE TABLE products (
    id INTEGER PRIMARY KEY, sku TEXT NOT NULL UNIQUE, title TEXT NOT NULL, price REAL NOT NULL, weight REAL);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), reference TEXT NOT NULL,
    placed_at TEXT NOT NULL, status TEXT NOT NULL, total REAL NOT NULL, details TEXT NOT NULL);
CREATE TABLE order_lines (
    id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders (id),
    product_id INTEGER NOT NULL REFERENCES products (id), quantity INTEGER NOT NULL, price REAL NOT NULL,
    weight REAL NOT NULL, remark TEXT NOT NULL);
CREATE TABLE log (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, level TEXT NOT NULL, source TEXT NOT NULL, message TEXT NOT NULL,
    session TEXT NOT NULL);
"""
INDEXES = """
CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE INDEX orders_by_reference ON orders (reference);
CREATE INDEX lines_by_order ON order_lines (order_id);
CREATE INDEX lines_by_product ON order_lines (product_id);
CREATE INDEX customers_by_email ON customers (email);
"""
PRODUCTS = 20_000
ORDERS_PER_BATCH = 4_000
BEFORE_INDEXES = 0.88  # of the size; the indexes take about a tenth, log rows fill the rest
EPOCH = 1_700_000_000


class Vocabulary:
    """Texts made once, so that a row costs a few look-ups. The pools are larger than a compressor's window."""

    def __init__(self, rng):
        syllables = [c + v + e for c in "bcdfghklmnprstvz" for v in "aeiou" for e in ("", "n", "r", "s", "l")]
        words = ["".join(rng.choices(syllables, k=rng.choice((1, 2, 2, 3, 3, 4)))) for _ in range(8_000)]
        rank = [1 / (i + 12) for i in range(len(words))]  # few words are frequent, as in any language
        total, cumulative = 0.0, []
        for weight in rank:
            total += weight
            cumulative.append(total)

        def text(low, high):
            return " ".join(rng.choices(words, cum_weights=cumulative, k=rng.randint(low, high)))

        self.phrases = [text(9, 16) for _ in range(120_000)]
        self.titles = [text(2, 5).title() for _ in range(PRODUCTS)]
        self.first = [w.title() for w in rng.sample(words, 600)]
        self.last = [w.title() for w in rng.sample(words, 3_000)]
        self.streets = [w.title() + " Street" for w in rng.sample(words, 2_000)]
        self.cities = [w.title() for w in rng.sample(words, 400)]
        self.stamps = [time.strftime("%Y-%m-%dT", time.gmtime(EPOCH + day * 86400)) for day in range(1_200)]
        self.clock = [f"{m // 60:02}:{m % 60:02}:" for m in range(1440)]


def identifier(bits):
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def customers(rng, words, first, count):
    random_, bits = rng.random, rng.getrandbits
    for number in range(first, first + count):
        given, family = words.first[int(random_() * 600)], words.last[int(random_() * 3000)]
        address = json.dumps({
            "street": f"{words.streets[int(random_() * 2000)]} {1 + int(random_() * 240)}",
            "city": words.cities[int(random_() * 400)], "zip": f"{int(random_() * 99999):05}", "country": "DE",
            "geo": [round(47 + random_() * 8, 5), round(6 + random_() * 9, 5)]})
        yield (number, identifier(bits(128)), f"{given} {family}", f"{given}.{family}{number}@example.org".lower(),
               f"+49 {int(random_() * 10**10):010}", address, stamp(words, random_), round(random_() * 5000, 2),
               words.phrases[int(random_() * 120_000)] + ". " + words.phrases[int(random_() * 120_000)])


def stamp(words, random_):
    return f"{words.stamps[int(random_() * 1200)]}{words.clock[int(random_() * 1440)]}{int(random_() * 60):02}Z"


def orders(rng, words, first, count, customers_so_far):
    random_, bits = rng.random, rng.getrandbits
    states = ("paid", "paid", "shipped", "shipped", "shipped", "delivered", "returned", "cancelled")
    for number in range(first, first + count):
        day = words.stamps[number // 40_000 % 1200]
        details = (f'{{"channel": "{("web", "app", "shop")[int(random_() * 3)]}", "carrier": "parcel", "gift": false, '
                   f'"tax": {random_() * 90:.4f}, "voucher": "{bits(40):010x}", '
                   f'"comment": "{words.phrases[int(random_() * 120_000)]}"}}')
        yield (number, 1 + int(random_() * customers_so_far), identifier(bits(128)),
               f"{day}{words.clock[int(random_() * 1440)]}{int(random_() * 60):02}Z",
               states[int(random_() * 8)], round(random_() * 900, 2), details)


def lines(rng, words, first, count, first_order):
    random_ = rng.random
    for number in range(first, first + count):
        yield (number, first_order + (number - first) // 3, 1 + int(random_() ** 2 * PRODUCTS), 1 + int(random_() * 6),
               round(random_() * 300, 2), random_() * 40, words.phrases[int(random_() * 120_000)])


def log(rng, words, first, count):
    random_, bits = rng.random, rng.getrandbits
    sources = [f"shop.{a}.{b}" for a in ("checkout", "search", "stock", "mail") for b in ("api", "worker", "cron")]
    for number in range(first, first + count):
        level = ("INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR")[int(random_() * 6)]
        yield (number, EPOCH + number * 0.61 + random_(), level, sources[int(random_() * 12)],
               f"{words.phrases[int(random_() * 120_000)]} in {random_() * 900:.3f} ms", f"{bits(128):032x}")


def generate(path, size, seed):
    rng = random.Random(seed)
    words = Vocabulary(rng)
    connection = sqlite3.connect(path, isolation_level=None)
    run = connection.execute
    for pragma in ("page_size = 4096", "journal_mode = OFF", "synchronous = OFF", "cache_size = -200000",
                   "temp_store = MEMORY" if size < 2 << 30 else "temp_store = FILE"):
        run(f"PRAGMA {pragma}")
    connection.executescript(SCHEMA)

    def written():
        return run("PRAGMA page_count").fetchone()[0] * 4096

    def insert(table, columns, rows):
        run("BEGIN")
        connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * columns)})", rows)
        run("COMMIT")

    insert("products", 5, ((i + 1, f"SKU-{rng.getrandbits(48):012x}", words.titles[i], round(rng.random() * 300, 2),
                            rng.random() * 40) for i in range(PRODUCTS)))
    customer = order = line = event = 1
    while written() < size * BEFORE_INDEXES:
        insert("customers", 9, customers(rng, words, customer, ORDERS_PER_BATCH // 8))
        customer += ORDERS_PER_BATCH // 8
        insert("orders", 7, orders(rng, words, order, ORDERS_PER_BATCH, customer - 1))
        insert("order_lines", 7, lines(rng, words, line, ORDERS_PER_BATCH * 3, order))
        order, line = order + ORDERS_PER_BATCH, line + ORDERS_PER_BATCH * 3
        insert("log", 6, log(rng, words, event, ORDERS_PER_BATCH * 2))
        event += ORDERS_PER_BATCH * 2
    connection.executescript(INDEXES)
    while (missing := size - written()) > 0:
        count = max(20, min(20_000, missing // 200))
        insert("log", 6, log(rng, words, event, count))
        event += count
    run("PRAGMA journal_mode = WAL")
    run("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def parse_size(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B?)?", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (try 256MiB or 1GiB)")
    unit = (match[2] or "").upper()[:1]
    return int(float(match[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[unit])


def main():
    parser = argparse.ArgumentParser(description="Makes a SQLite database with realistic rows.")
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"), help="of the file, e.g. 256MiB")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("path")
    options = parser.parse_args()
    if os.path.exists(options.path):
        sys.exit(f"{options.path} exists already")
    began = time.monotonic()
    staging = options.path + ".new"
    for leftover in (staging, staging + "-wal", staging + "-shm"):
        if os.path.exists(leftover):
            os.remove(leftover)
    generate(staging, options.size, options.seed)
    os.rename(staging, options.path)
    print(f"{options.path}: {os.path.getsize(options.path)} bytes in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
