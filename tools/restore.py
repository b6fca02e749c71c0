#!/usr/bin/env python3
"""Restores backups from a Copal repository without Copal. Written against docs/format.md alone.

    restore.py REPOSITORY list
    restore.py REPOSITORY restore NAME [--backup ID|latest] [--no-journal | --until SEGMENT] --to FOLDER
    restore.py REPOSITORY verify NAME [--backup ID|latest|all]

What was saved after a backup as segments of its journal is written to FOLDER/journal/NUMBER-SEGMENT/; with
--until, only up to that one.
REPOSITORY is a local folder; copy one that lies in an object store with any client first. The secret of an
encrypted repository comes from --passphrase-file, --identity (an age identity for a recovery key), the
environment's COPAL_PASSPHRASE, or a prompt. Needs `pip install zstandard blake3`, and for encrypted
repositories `pip install cryptography pyrage`.

Exit codes: 0 done, 1 failed, 2 wrong usage or passphrase, 4 damage or tampering found, 5 pruned meanwhile.
"""

import argparse
import collections
import getpass
import hmac
import importlib
import json
import os
import re
import shutil
import struct
import sys
import tempfile

MIB = 1 << 20
MAX_CONTENT = 4 * MIB  # of a frame in a pack
MAX_HEADER, MAX_BODY = 64 * MIB, 256 * MIB  # of a document
OVERHEAD = MIB  # what compression may add to incompressible content, and the seal; generous
CACHED_BYTES = 64 * MIB  # contents of frames held in memory
PAGES, LEAF, BRANCH, STREAM, STREAM_LEAF, MANIFEST, RECORD, SEGMENT = 1, 2, 3, 4, 5, 16, 17, 19
PER_NODE = 4096
NAME = re.compile(r"(?!\.)[a-z0-9._-]{1,64}\Z")
HEX_ID = re.compile(r"[0-9a-f]{32}\Z")
BACKUP_ID = re.compile(r"[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4}\Z")
PACK_ID = re.compile(r"([0-9]{8}-[0-9]{6}Z-[0-9a-f]{4})-(?:0|[1-9][0-9]*)-[0-9a-f]{16}\Z")
HASH = re.compile(r"[0-9a-f]{64}\Z")
TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z\Z")
KEY_FILE = re.compile(r"[0-9a-f]{8}\.age\Z")
KEY_TEXT = re.compile(rb"copal-repository-key 1\n([0-9a-f]{32})\n([0-9a-f]{64})\n")
AGE = rb"age-encryption\.org/v1\n-> (?:scrypt \S+ ([0-9]{1,3})\n)?"

class Failure(Exception): code = 1
class Wrong(Failure): code = 2
class Damage(Failure): code = 4
class Pruned(Failure): code = 5

def ensure(condition, message, kind=Damage):
    if not condition:
        raise kind(message)

def need(module):
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.split(".")[0]
        raise Failure(f"this needs the Python package {package}: pip install {package}") from None

def blake(data, **options):
    return need("blake3").blake3(data, **options)

def derive(context, key, *parts):
    """A derived key; nothing without encryption."""
    return key and blake(key + b"".join(parts), derive_key_context="copal format 1: " + context).digest()

def printable(text):
    return "".join(c if c.isprintable() else "?" for c in str(text))

def is_count(value):
    return type(value) is int and 0 <= value < 1 << 63

def parse_json(data, what):
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Damage(f"{what}: not valid JSON") from None
    ensure(isinstance(value, dict), f"{what}: not a JSON object")
    version = value.get("format", 1)
    ensure(is_count(version) and version > 0, f"{what}: damaged")
    ensure(version == 1, f"{what}: written in format {version}; update this program", Failure)
    return value

def read_object(path, limit, what):
    """All bytes of an object that must be there."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise Damage(f"{what}: missing") from None
    ensure(len(data) <= limit, f"{what}: larger than the format allows")
    return data

def entries(folder):
    """Names of the objects in a folder: those that begin with a dot are staging files and locks."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []

class Repository:
    def __init__(self, folder, secret):
        self.folder, self.key = folder, None
        path = os.path.join(folder, "copal.json")
        ensure(os.path.isfile(path), f"{folder} is not a Copal repository: it has no copal.json", Wrong)
        config = parse_json(read_object(path, MIB, "copal.json"), "copal.json")
        self.id, self.encryption = config.get("repository"), config.get("encryption")
        ensure(HEX_ID.match(str(self.id)) and self.encryption in ("none", "aes-256-gcm"), "copal.json: damaged")
        keys = [name for name in entries(os.path.join(folder, "keys")) if KEY_FILE.match(name)]
        if self.encryption == "none":
            ensure(not keys, "copal.json says that nothing is encrypted, but there are keys: tampered with")
            ensure(not secret.given, "copal.json says that nothing is encrypted, but a passphrase or identity is "
                                     "configured: tampered with, or unset it")
            return
        ensure(keys, "keys: the repository is encrypted, but its key files are missing")
        self.key = self.unwrap(keys, secret)
        text = f"copal.json\n1\n{self.id}\n{self.encryption}\n".encode()
        mac = blake(text, key=derive("repository mac", self.key)).hexdigest()
        ensure(hmac.compare_digest(mac.encode(), str(config.get("mac")).encode()),
               "copal.json: tampered with (its authentication code is wrong)")

    def unwrap(self, names, secret):
        for name in names:
            what = f"keys/{name}"
            data = read_object(os.path.join(self.folder, what), MIB // 16, what)
            age = re.match(AGE, data)
            ensure(age, f"{what}: damaged")
            ensure(int(age[1] or 0) <= 20, f"{what}: asks for more work than the format allows")
            if bool(age[1]) == secret.is_identity:
                continue  # a passphrase opens only the one kind, an identity only the other
            plain = secret.open(data)
            if plain is not None:
                text = KEY_TEXT.fullmatch(plain)
                ensure(text and text[1].decode() == self.id, f"{what}: the key of another repository")
                return bytes.fromhex(text[2].decode())
        raise Wrong("no key of this repository opens with this " + ("identity" if secret.is_identity else "passphrase"))

    def open_sealed(self, sealed, key, nonce, associated, kind, limit, what):
        """Authenticates a frame, then decompresses it: its content."""
        if self.encryption == "none":
            frame, seal = sealed[:-32], sealed[-32:]
            ensure(hmac.compare_digest(blake(associated + frame).digest(), seal),
                   f"{what}: damaged (its checksum is wrong)")
        else:
            try:
                aead = need("cryptography.hazmat.primitives.ciphers.aead")
                frame = aead.AESGCM(key).decrypt(nonce, sealed, associated)
            except Failure:
                raise
            except Exception:  # InvalidTag, or ValueError for what is too short
                raise Damage(f"{what}: damaged or tampered with (it does not authenticate)") from None
        ensure(len(frame) >= 8, f"{what}: damaged")
        found, compression, zero, raw = struct.unpack_from("<BBHI", frame)
        ensure(found == kind and compression <= 1 and not zero and raw <= limit, f"{what}: not a frame of kind {kind}")
        body = frame[8:]
        if compression:
            zstandard = need("zstandard")
            try:  # the library allocates what the zstd frame claims, so that is checked first
                size = zstandard.get_frame_parameters(body).content_size
                ensure(size in (raw, zstandard.CONTENTSIZE_UNKNOWN), f"{what}: damaged")
                body = zstandard.ZstdDecompressor().decompress(body, max_output_size=raw, allow_extra_data=False)
            except zstandard.ZstdError:
                raise Damage(f"{what}: damaged (it does not decompress)") from None
        ensure(len(body) == raw, f"{what}: damaged")
        return body

    def document(self, path, kind, what, key_of):
        """Header, body and hash of a document; key_of checks the header and derives the key."""
        data = read_object(path, MAX_HEADER + MAX_BODY + OVERHEAD, what)
        end = 12 + int.from_bytes(data[8:12], "little")
        nonce_end = end + (12 if self.key else 0)
        ensure(data[:8] == b"COPALDC1" and end <= 12 + MAX_HEADER and nonce_end <= len(data), f"{what}: damaged")
        header = parse_json(data[12:end], what)
        ensure(HEX_ID.match(str(header.get("database"))), f"{what}: damaged")
        content = self.open_sealed(
            data[nonce_end:], key_of(header), data[end:nonce_end], data[:end], kind, MAX_BODY, what)
        return header, parse_json(content, what), blake(data).hexdigest()

    def names(self):
        return [name for name in entries(os.path.join(self.folder, "databases")) if NAME.match(name)]

class Database:
    def __init__(self, repository, name):
        self.repository, self.name, self.what = repository, name, f"databases/{name}"
        self.folder = os.path.join(repository.folder, "databases", name)
        ensure(name in repository.names(),
               f"no database {printable(name)!r}; there are: {', '.join(repository.names()) or 'none'}", Wrong)
        header, self.record, _ = repository.document(
            os.path.join(self.folder, "database"), RECORD, f"{self.what}/database",
            lambda header: derive("database record key", repository.key, bytes.fromhex(header["database"])))
        self.id, self.read_segments = bytes.fromhex(header["database"]), None

    def data_key(self, backup):
        return derive("backup data key", self.repository.key, self.id, backup.encode())

    def existing(self, folder):
        folder = os.path.join(self.folder, folder)
        return [id for id in entries(folder) if BACKUP_ID.match(id) and os.path.getsize(os.path.join(folder, id))]

    def segments(self):
        """Every segment of any journal, or the damage that is in its place: (backup under it, id, segment, damage)."""
        if self.read_segments is None:
            known, self.read_segments = self.existing("backups"), []
            for id in self.existing("journal"):
                try:
                    segment = Segment(self, id)
                    self.read_segments.append((segment.base, id, segment, None))
                except Damage as error:  # nobody appends but to the newest backup of that time
                    self.read_segments.append((max((b for b in known if b < id), default=None), id, None, error))
        return self.read_segments

    def backups(self, wanted="all"):
        """Ids of the backups that exist, the newest last: an empty object is a tombstone."""
        ids = self.existing("backups")
        if wanted == "all":
            return ids
        wanted = ids[-1:] if wanted == "latest" else [id for id in ids if id == wanted]
        ensure(wanted, f"{self.name} has no such backup; it has: {', '.join(ids) or 'none'}", Wrong)
        return wanted

class Content:
    """An open manifest or segment: reads its files, each frame authenticated, each page against its digest."""

    def __init__(self, database, id, folder, kind, noun):
        self.database, self.id, self.what, self.noun = database, id, f"{database.what}/{folder}/{id}", noun
        self.path = os.path.join(database.folder, folder, id)
        self.cache, self.cached_bytes, self.pack_keys = collections.OrderedDict(), 0, {}

        def key_of(header):
            is_manifest = kind == MANIFEST
            other = "manifest of another database or backup" if is_manifest else "segment of another database or place"
            ensure(header["database"] == database.id.hex() and header.get(noun) == id, f"{self.what}: the {other}")
            return derive("manifest key" if is_manifest else "segment key", database.data_key(id))

        header, self.body, self.hash = database.repository.document(self.path, kind, self.what, key_of)
        self.header = header
        try:
            self.packs, self.files = {pack: size for pack, size in header["packs"]}, self.body["files"]
            sound = all(PACK_ID.match(pack) and is_count(size) for pack, size in self.packs.items())
            sound = sound and len({file["name"] for file in self.files}) == len(self.files)
        except (KeyError, TypeError, ValueError):
            sound = False
        ensure(sound, f"{self.what}: damaged")

    def pack(self, id):
        return os.path.join(self.database.folder, "packs", id), f"{self.database.what}/packs/{id}"

    def check_packs(self):
        """All packs are there and as long as the manifest says: cheap, and done before the first byte is written."""
        for id, size in self.packs.items():
            path, what = self.pack(id)
            try:
                with open(path, "rb") as file:
                    found, magic = os.fstat(file.fileno()).st_size, file.read(8)
            except FileNotFoundError:
                still_there = os.path.exists(self.path) and os.path.getsize(self.path)
                ensure(still_there, f"{self.what}: pruned meanwhile", Pruned)
                raise Damage(f"{what}: missing, and {self.noun} {self.id} needs it") from None
            ensure(found == size and magic == b"COPALPK1", f"{what}: damaged ({found} bytes, not {size}, or no pack)")

    def frame(self, reference, kind):
        """The content of the frame at (pack, number, offset, sealed length)."""
        if (reference, kind) in self.cache:
            self.cache.move_to_end((reference, kind))
            return self.cache[reference, kind]
        id, number, offset, length = reference
        path, what = self.pack(id)
        ensure(id in self.packs and offset >= 12 and length <= MAX_CONTENT + OVERHEAD,
               f"{self.what}: refers to frame {number} of {printable(what)}, but must not")
        with open(path, "rb") as file:
            file.seek(offset - 4)
            data = file.read(4 + length)
        what += f", frame {number}"
        ensure(len(data) == 4 + length and int.from_bytes(data[:4], "little") == length,
               f"{what}: damaged (truncated, or its length is wrong)")
        if id not in self.pack_keys:
            data_key = self.database.data_key(PACK_ID.match(id)[1])
            self.pack_keys[id] = derive("pack key", data_key, id.encode())
        content = self.database.repository.open_sealed(
            data[4:], self.pack_keys[id], struct.pack("<QI", number, 0),
            self.database.id + id.encode() + struct.pack("<I", number), kind, MAX_CONTENT, what)
        self.cache[reference, kind] = content
        self.cached_bytes += len(content)
        while self.cached_bytes > CACHED_BYTES and len(self.cache) > 1:
            self.cached_bytes -= len(self.cache.popitem(last=False)[1])
        return content

    def consistent(self, condition, detail):
        ensure(condition, f"{self.what}: its page map is not consistent ({detail})")

    def leaves(self, file, kind):
        """(entries, frames, rest of the content) of each leaf of a file, in order and without gaps."""
        leaf_number = entry_number = 0
        for ref in file["branches"]:
            ensure(isinstance(ref, list) and len(ref) == 4 and isinstance(ref[0], str) and all(map(is_count, ref[1:]))
                   and ref[1] < 1 << 32, f"{self.what}: damaged")
            branch = Node(self, self.frame(tuple(ref), BRANCH), leaf_number)
            references = branch.references(branch.packs(), branch.count)
            branch.end()
            for reference in references:
                leaf = Node(self, self.frame(reference, kind), entry_number)
                yield leaf.count, leaf.references(leaf.packs(), *leaf.take("<I")), leaf
                leaf.end()
                entry_number += leaf.count
            leaf_number += branch.count

    def content(self, file):
        """The bytes of a file, piece by piece. Ends only if its digest is right."""
        try:
            length, digest, is_pages = file["length"], bytes.fromhex(file["digest"]), file["kind"] == "pages"
            head, page_size = (bytes.fromhex(file["head"]), file["page_size"]) if is_pages else (b"", 512)
            sound = is_pages or file["kind"] == "stream"
            sound = sound and is_count(length) and is_count(page_size) and isinstance(file["branches"], list)
        except (KeyError, TypeError, ValueError):
            sound = False
        ensure(sound and 512 <= page_size <= MIB and len(head) <= min(65536, length), f"{self.what}: damaged")
        if is_pages:
            hasher = blake(struct.pack("<QII", length, page_size, len(head)) + head)
            yield head
            yield from self.pages(file, length - len(head), page_size, hasher)
        else:
            hasher = blake(b"")
            yield from self.chunks(file, length, hasher)
        ensure(hasher.digest() == digest, f"{self.what}: the digest of {printable(file['name'])} is wrong")

    def pages(self, file, left, size, hasher):
        for count, references, leaf in self.leaves(file, LEAF):
            frames, slots, digests = leaf.take(f"<{count}I"), leaf.take(f"<{count}H"), leaf.bytes(16 * count)
            self.consistent(left > (count - 1) * size and (count == PER_NODE or left <= count * size), "page count")
            self.consistent(max(frames) < len(references), "frame index")
            for i, (frame, slot) in enumerate(zip(frames, slots)):
                page = self.frame(references[frame], PAGES)[slot * size:slot * size + min(size, left)]
                self.piece(page, min(size, left), digests[16 * i:16 * i + 16], references[frame])
                left -= len(page)
                yield page
            hasher.update(digests)
        self.consistent(not left, "pages are missing")

    def chunks(self, file, left, hasher):
        for count, references, leaf in self.leaves(file, STREAM_LEAF):
            for _ in range(count):
                (frame, start, length), digest = leaf.take("<III"), leaf.bytes(16)
                self.consistent(frame < len(references) and 0 < length <= left, "chunks")
                chunk = self.frame(references[frame], STREAM)[start:start + length]
                self.piece(chunk, length, digest, references[frame])
                left -= length
                hasher.update(chunk)
                yield chunk
        self.consistent(not left, "chunks are missing")

    def piece(self, data, length, digest, reference):
        if len(data) != length or blake(data).digest()[:16] != digest:
            raise Damage(f"{self.pack(reference[0])[1]}, frame {reference[1]}: not what {self.noun} {self.id} expects")

class Segment(Content):
    """What happened after a backup, from one state to the next."""

    def __init__(self, database, id):
        super().__init__(database, id, "journal", SEGMENT, "segment")
        try:
            follows = self.header["follows"]
            self.base, self.number, self.follows = follows["base"], follows["sequence"] + 1, follows["hash"]
            sound = is_count(follows["sequence"]) and BACKUP_ID.match(self.base) and self.base < id
            sound = sound and HASH.match(self.follows) and all(file["kind"] == "stream" for file in self.files)
        except (KeyError, TypeError):
            sound = False
        ensure(sound, f"{self.what}: damaged")
        self.time = instant(self.header.get("time"), self.what)

class Backup(Content):
    def __init__(self, database, id):
        super().__init__(database, id, "backups", MANIFEST, "backup")

    def journal(self, until=None):
        """Its segments (up to that one) in order, each compared with what it follows: none is missing or exchanged."""
        found = [entry for entry in self.database.segments() if entry[0] == self.id]
        for _, id, _, damage in found:
            if damage and (until is None or id <= until):
                raise damage
        end = [segment.number for _, id, segment, _ in found if segment and until in (None, id)]
        ensure(end or until is None, f"the journal of backup {self.id} has no segment {printable(until)}", Wrong)
        segments = [segment for _, _, segment, _ in found if segment and segment.number <= max(end)]
        segments = sorted(segments, key=lambda segment: (segment.number, segment.id))
        before, hash = 0, self.hash
        time = segments and instant(self.body.get("captured_at"), self.what)
        for segment in segments:
            ensure(segment.number == before + 1, f"{segment.what}: has number {segment.number}, but the one before it "
                                                 f"has {before}: some are missing or there twice")
            ensure(segment.follows == hash, f"{segment.what}: follows another state than what is before it: exchanged")
            ensure(segment.time >= time, f"{segment.what}: earlier than what it follows")
            before, hash, time = segment.number, segment.hash, segment.time
        return segments

    def missing(self, segments):
        """What the next backup says about segments that are not there; None if it misses none."""
        later = [id for id in self.database.backups() if id > self.id][:1]
        try:
            follows = Backup(self.database, later[0]).body.get("follows") if later else None
        except Damage:
            return None
        if not isinstance(follows, dict) or follows.get("base") != self.id:
            return None
        states = [(0, self.hash)] + [(segment.number, segment.hash) for segment in segments]
        if (follows.get("sequence"), follows.get("hash")) in states:
            return None
        return f"{self.what}: its journal ends at segment {len(segments)}, but backup {later[0]} follows another end"

def instant(text, what):
    """A time, in order."""
    found = TIME.match(text) if isinstance(text, str) else None
    ensure(found, f"{what}: damaged (a time)")
    return found[1], (found[2] or "").ljust(9, "0")

class Node:
    """Takes the fields of a leaf or branch from its content, never more than there are."""

    def __init__(self, backup, data, first):
        self.backup, self.data, self.at = backup, data, 0
        begins, self.count = self.take("<QI")
        backup.consistent(begins == first and 1 <= self.count <= PER_NODE, "order")

    def bytes(self, count):
        self.at += count
        self.backup.consistent(self.at <= len(self.data), "truncated")
        return self.data[self.at - count:self.at]

    def take(self, layout):
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def packs(self):
        return [self.bytes(*self.take("<B")).decode("ascii", "replace") for _ in range(*self.take("<H"))]

    def references(self, packs, count):
        found = list(struct.iter_unpack("<HIII", self.bytes(14 * count)))
        self.backup.consistent(all(index < len(packs) for index, *_ in found), "pack index")
        return [(packs[index], *rest) for index, *rest in found]

    def end(self):
        self.backup.consistent(self.at == len(self.data), "bytes left over")

def safe_name(name):
    parts = name.split("/") if isinstance(name, str) else [""]
    ensure(all(p.isprintable() and p not in ("", ".", "..") and not set(p) & set("\\:") for p in parts),
           f"the manifest names a file {printable(name)!r}, which could leave the folder: refused")
    return os.path.join(*parts)

def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

def restore(backup, folder, with_journal, until=None):
    """Writes all files beside their places, completely, before the first takes its own; replaces nothing."""
    segments = backup.journal(until) if with_journal else []
    parts = [(backup, file, safe_name(file["name"])) for file in backup.files]
    for segment in segments:
        place = os.path.join("journal", f"{segment.number}-{segment.id}")
        parts += [(segment, file, os.path.join(place, safe_name(file["name"]))) for file in segment.files]
    names = [name for _, _, name in parts]
    ensure(len(set(names)) == len(names), f"{backup.what}: has a file in the place of its journal; use --no-journal")
    targets = [os.path.join(folder, name) for name in names]
    for target in targets:
        ensure(not os.path.lexists(target), f"{target} exists already; choose another folder", Failure)
    for content in [backup, *segments]:
        content.check_packs()
    os.makedirs(folder, exist_ok=True)
    staging = tempfile.mkdtemp(prefix=".copal-restore-", dir=folder)
    try:
        for content, file, name in parts:
            path = os.path.join(staging, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb", buffering=MIB) as output:
                for piece in content.content(file):
                    output.write(piece)
            sync(path)
        for target, name in zip(targets, names):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            ensure(not os.path.lexists(target), f"{target} exists already; choose another folder", Failure)
            os.rename(os.path.join(staging, name), target)
            sync(os.path.dirname(target))
            print(f"restored {target}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    missing = with_journal and until is None and backup.missing(segments)
    if missing:
        print(f"Warning: {missing}", file=sys.stderr)

def each(items, action):
    """Does it for all, naming the damaged ones; fails at the end if there were any."""
    damaged = 0
    for item in items:
        try:
            action(item)
        except Damage as error:
            damaged += 1
            print(error, file=sys.stderr)
    ensure(not damaged, f"{damaged} damaged")

def verify(database, id):
    backup = Backup(database, id)
    segments = backup.journal()
    total = 0
    for content in [backup, *segments]:
        content.check_packs()
        total += sum(len(piece) for file in content.files for piece in content.content(file))
    missing = backup.missing(segments)
    ensure(not missing, missing)
    print(f"{database.name} {id}: sound, {total} bytes" + (f", {len(segments)} segments" if segments else ""))

def show_database(repository, name):
    database = Database(repository, name)
    print(f"{name}  ({printable(database.record.get('name'))}, {printable(database.record.get('engine'))})")

    def show(id):
        backup, marks = Backup(database, id), os.path.join(database.folder, "marks", id)
        body, segments = backup.body, backup.journal()
        marked = [mark for mark in ("pinned", "verified") if os.path.exists(f"{marks}.{mark}")]
        label = str(body.get("label") or "")
        count = [f"{len(segments)} segments"] if segments else []
        print(printable("  ".join([f"  {id}", f"{body.get('logical_bytes')} bytes", *count, *marked, label])))

    each(database.backups(), show)

class Secret:
    """The passphrase or identity; asked for only when it is needed."""

    def __init__(self, options):
        self.options, self.value, self.is_identity = options, None, bool(options.identity)
        self.given = bool(options.passphrase_file or options.identity or os.environ.get("COPAL_PASSPHRASE"))

    def open(self, wrapped):
        """The plaintext of an age file, or None if this secret does not open it."""
        pyrage = need("pyrage")
        self.value = self.load(pyrage) if self.value is None else self.value
        try:
            return (pyrage if self.is_identity else pyrage.passphrase).decrypt(wrapped, self.value)
        except pyrage.DecryptError:
            return None

    def load(self, pyrage):
        path = self.options.identity or self.options.passphrase_file
        try:
            if path:
                with open(path, encoding="utf-8") as file:
                    text = file.read(MIB)
                if not self.is_identity:
                    return re.sub(r"\r?\n\Z", "", text)
                return [pyrage.x25519.Identity.from_str(key) for key in re.findall(r"^AGE-SECRET-KEY-\w+", text, re.M)]
        except (OSError, UnicodeError, pyrage.IdentityError) as error:
            raise Wrong(f"cannot use {path}: {error}") from None
        ensure(self.given or sys.stdin.isatty(),
               "the repository is encrypted: give --passphrase-file, --identity or COPAL_PASSPHRASE", Wrong)
        return os.environ.get("COPAL_PASSPHRASE") or getpass.getpass("Passphrase: ")

def run(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", help="a local folder")
    parser.add_argument("command", choices=("list", "restore", "verify"))
    parser.add_argument("name", nargs="?", help="of the database")
    parser.add_argument("--backup", metavar="ID|latest|all")
    parser.add_argument("--to", metavar="FOLDER")
    journal = parser.add_mutually_exclusive_group()
    journal.add_argument("--no-journal", action="store_true", help="the backup alone")
    journal.add_argument("--until", metavar="SEGMENT", help="the journal up to this segment")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--passphrase-file", metavar="FILE")
    secret.add_argument("--identity", metavar="FILE", help="with an age identity")
    options = parser.parse_args(arguments)
    has_name, has_target = options.name is not None, options.to is not None
    if has_name != (options.command != "list") or has_target != (options.command == "restore"):
        parser.error("restore needs NAME and --to FOLDER, verify needs NAME, list needs neither")
    if options.command == "restore" and options.backup == "all":
        parser.error("restore one backup at a time")
    repository = Repository(options.repository, Secret(options))
    if options.command == "list":
        return each(repository.names(), lambda name: show_database(repository, name))
    database = Database(repository, options.name)
    if options.command == "verify":
        return each(database.backups(options.backup or "all"), lambda id: verify(database, id))
    backup = Backup(database, *database.backups(options.backup or "latest"))
    return restore(backup, options.to, not options.no_journal, options.until)

def main():
    try:
        run(sys.argv[1:])
        return 0
    except (Failure, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return getattr(error, "code", 1)
    except KeyboardInterrupt:
        return 130

if __name__ == "__main__":
    sys.exit(main())
