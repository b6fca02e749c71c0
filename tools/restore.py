#!/usr/bin/env python3
"""Restores backups from a Copal repository without Copal. Written against docs/format.md alone.

    restore.py REPOSITORY list
    restore.py REPOSITORY restore NAME [--backup ID|latest] --to FOLDER
    restore.py REPOSITORY verify NAME [--backup ID|latest|all]

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
CACHED_FRAMES = 64 * MIB  # contents of frames held in memory
PAGES, LEAF, BRANCH, STREAM, STREAM_LEAF, MANIFEST, RECORD = 1, 2, 3, 4, 5, 16, 17
PER_NODE = 4096
NAME = re.compile(r"(?!\.)[a-z0-9._-]{1,64}\Z")
HEX_ID = re.compile(r"[0-9a-f]{32}\Z")
BACKUP_ID = re.compile(r"[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4}\Z")
PACK_ID = re.compile(r"([0-9]{8}-[0-9]{6}Z-[0-9a-f]{4})-(?:0|[1-9][0-9]*)-[0-9a-f]{16}\Z")
KEY_FILE = re.compile(r"[0-9a-f]{8}\.age\Z")


class Failure(Exception):
    code = 1


class Wrong(Failure):
    code = 2


class Damage(Failure):
    code = 4


class Pruned(Failure):
    code = 5


def need(module):
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Failure(f"this needs the Python package {module}: pip install {module}") from None


def blake(data, **options):
    return need("blake3").blake3(data, **options)


def derive(context, data):
    return blake(data, derive_key_context="copal format 1: " + context).digest()


def printable(text):
    return "".join(c if c.isprintable() else "?" for c in str(text))


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def parse_json(data, what):
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Damage(f"{what}: not valid JSON") from None
    if not isinstance(value, dict):
        raise Damage(f"{what}: not a JSON object")
    if is_count(value.get("format")) and value["format"] > 1:
        raise Failure(f"{what}: written in format {value['format']}; update this program")
    return value


def read_object(path, limit, what):
    """All bytes of a small object, which must be there."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise Damage(f"{what}: missing") from None
    if len(data) > limit:
        raise Damage(f"{what}: larger than the format allows")
    return data


def entries(folder):
    """Names of the objects in a folder: those that begin with a dot are staging files and locks."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []


class Repository:
    def __init__(self, folder, secrets):
        self.folder = folder
        if not os.path.isfile(os.path.join(folder, "copal.json")):
            raise Wrong(f"{folder} is not a Copal repository: it has no copal.json")
        config = parse_json(read_object(os.path.join(folder, "copal.json"), MIB, "copal.json"), "copal.json")
        self.id, self.encryption = config.get("repository"), config.get("encryption")
        if config.get("format") != 1 or not HEX_ID.match(str(self.id)) or self.encryption not in ("none", "aes-256-gcm"):
            raise Damage("copal.json: damaged")
        keys = [name for name in entries(os.path.join(folder, "keys")) if KEY_FILE.match(name)]
        self.key = None
        if self.encryption == "none":
            if keys:
                raise Damage("copal.json says that nothing is encrypted, but there are keys: tampered with")
            if secrets.given:
                raise Damage("copal.json says that nothing is encrypted, but a passphrase or identity is configured: "
                             "tampered with, or unset it")
            return
        if not keys:
            raise Damage("keys: the repository is encrypted, but its key files are missing")
        self.key = self.unwrap(keys, secrets)
        text = f"copal.json\n1\n{self.id}\n{self.encryption}\n".encode()
        mac = blake(text, key=derive("repository mac", self.key)).hexdigest()
        if not hmac.compare_digest(mac.encode(), str(config.get("mac")).encode()):
            raise Damage("copal.json: tampered with (its authentication code is wrong)")

    def unwrap(self, names, secrets):
        attempts = 0
        for name in names:
            data = read_object(os.path.join(self.folder, "keys", name), MIB // 16, f"keys/{name}")
            scrypt = re.match(rb"age-encryption\.org/v1\n-> scrypt \S+ ([0-9]{1,3})\n", data)
            if scrypt and int(scrypt[1]) > 20:
                raise Damage(f"keys/{name}: asks for more work than the format allows")
            if not scrypt and not data.startswith(b"age-encryption.org/v1\n"):
                raise Damage(f"keys/{name}: damaged")
            if bool(scrypt) == secrets.is_identity:
                continue  # a passphrase opens only the one kind, an identity only the other
            attempts += 1
            plain = secrets.open(data)
            if plain is None:
                continue
            text = re.fullmatch(rb"copal-repository-key 1\n([0-9a-f]{32})\n([0-9a-f]{64})\n", plain)
            if not text or text[1].decode() != self.id:
                raise Damage(f"keys/{name}: the key of another repository")
            return bytes.fromhex(text[2].decode())
        kind = "identity" if secrets.is_identity else "passphrase"
        raise Wrong(f"no key of this repository opens with this {kind} ({attempts} of its kind tried)")

    def open_sealed(self, sealed, key, nonce, associated, kind, limit, what):
        """Authenticates a frame, then decompresses it: its content."""
        if self.encryption == "none":
            frame, seal = sealed[:-32], sealed[-32:]
            if len(seal) != 32 or not hmac.compare_digest(blake(associated + frame).digest(), seal):
                raise Damage(f"{what}: damaged (its checksum is wrong)")
        else:
            need("cryptography")
            aead = importlib.import_module("cryptography.hazmat.primitives.ciphers.aead")
            try:
                frame = aead.AESGCM(key).decrypt(nonce, sealed, associated)
            except Exception:
                raise Damage(f"{what}: damaged or tampered with (it does not authenticate)") from None
        if len(frame) < 8:
            raise Damage(f"{what}: damaged")
        found, compression, zero, raw = struct.unpack_from("<BBHI", frame)
        if found != kind or compression > 1 or zero or raw > limit:
            raise Damage(f"{what}: not a frame of kind {kind}")
        body = frame[8:]
        if compression:
            zstandard = need("zstandard")
            try:  # the size that the zstd frame claims is what the library allocates
                size = zstandard.get_frame_parameters(body).content_size
                if size not in (raw, zstandard.CONTENTSIZE_UNKNOWN):
                    raise Damage(f"{what}: damaged")
                body = zstandard.ZstdDecompressor().decompress(body, max_output_size=raw, allow_extra_data=False)
            except zstandard.ZstdError:
                raise Damage(f"{what}: damaged (it does not decompress)") from None
        if len(body) != raw:
            raise Damage(f"{what}: damaged")
        return body

    def document(self, path, kind, what, key_of):
        """Header and body of a manifest or record; key_of derives the key from the header, after checking it."""
        data = read_object(path, MAX_HEADER + MAX_BODY + OVERHEAD, what)
        if len(data) < 12 or data[:8] != b"COPALDC1":
            raise Damage(f"{what}: damaged")
        end = 12 + int.from_bytes(data[8:12], "little")
        nonce_end = end + (12 if self.key else 0)
        if end > 12 + MAX_HEADER or nonce_end > len(data):
            raise Damage(f"{what}: damaged")
        header = parse_json(data[12:end], what)
        if header.get("format") != 1 or not HEX_ID.match(str(header.get("database"))):
            raise Damage(f"{what}: damaged")
        key = key_of(header)
        content = self.open_sealed(data[nonce_end:], key, data[end:nonce_end], data[:end], kind, MAX_BODY, what)
        return header, parse_json(content, what)

    def names(self):
        return [name for name in entries(os.path.join(self.folder, "databases")) if NAME.match(name)]


class Database:
    def __init__(self, repository, name):
        self.repository, self.name = repository, name
        self.folder = os.path.join(repository.folder, "databases", name)
        if not NAME.match(name) or not os.path.isdir(self.folder):
            raise Wrong(f"no database {printable(name)!r}; there are: {', '.join(repository.names()) or 'none'}")
        header, self.record = repository.document(
            os.path.join(self.folder, "database"), RECORD, f"databases/{name}/database",
            lambda header: repository.key and derive(
                "database record key", repository.key + bytes.fromhex(header["database"])))
        self.id = header["database"]

    def data_key(self, backup):
        key = self.repository.key
        return key and derive("backup data key", key + bytes.fromhex(self.id) + backup.encode())

    def backups(self):
        """Ids of the backups that exist, the newest last: an empty object is a tombstone."""
        folder = os.path.join(self.folder, "backups")
        return [id for id in entries(folder) if BACKUP_ID.match(id) and os.path.getsize(os.path.join(folder, id))]

    def is_marked(self, backup, mark):
        return os.path.exists(os.path.join(self.folder, "marks", f"{backup}.{mark}"))

    def choose(self, wanted):
        ids = self.backups()
        if wanted == "all":
            return ids
        if wanted == "latest":
            wanted = ids[-1] if ids else None
        if wanted not in ids:
            raise Wrong(f"{self.name} has no such backup; it has: {', '.join(ids) or 'none'}")
        return [wanted]


class Backup:
    """An open manifest: reads the content of its files, each frame authenticated, each page against its digest."""

    def __init__(self, database, id):
        self.database, self.id = database, id
        self.what = f"databases/{database.name}/backups/{id}"

        def key_of(header):
            if header["database"] != database.id or header.get("backup") != id:
                raise Damage(f"{self.what}: the manifest of another database or backup")
            return database.data_key(id) and derive("manifest key", database.data_key(id))

        self.path = os.path.join(database.folder, "backups", id)
        self.header, self.body = database.repository.document(self.path, MANIFEST, self.what, key_of)
        try:
            self.packs = {pack: size for pack, size in self.header["packs"]}
            self.files = self.body["files"]
            sound = all(PACK_ID.match(pack) and is_count(size) for pack, size in self.packs.items())
            sound = sound and len({file["name"] for file in self.files}) == len(self.files)
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise Damage(f"{self.what}: damaged")
        self.cache, self.cached_bytes, self.pack_keys = collections.OrderedDict(), 0, {}

    def check_packs(self):
        """All packs are there and as long as the manifest says: cheap, and done before the first byte is written."""
        for pack, size in self.packs.items():
            try:
                found = os.path.getsize(self.pack_path(pack))
            except FileNotFoundError:
                if not os.path.exists(self.path) or not os.path.getsize(self.path):
                    raise Pruned(f"{self.what}: pruned meanwhile") from None
                raise Damage(f"{self.pack_name(pack)}: missing, and backup {self.id} needs it") from None
            with open(self.pack_path(pack), "rb") as file:
                if found != size or file.read(8) != b"COPALPK1":
                    raise Damage(f"{self.pack_name(pack)}: damaged ({found} bytes instead of {size}, or no pack)")

    def pack_path(self, pack):
        return os.path.join(self.database.folder, "packs", pack)

    def pack_name(self, pack):
        return f"databases/{self.database.name}/packs/{pack}"

    def frame(self, reference, kind):
        """The content of the frame at (pack, number, offset, sealed length)."""
        if reference in self.cache:
            self.cache.move_to_end(reference)
            return self.cache[reference][1] if self.cache[reference][0] == kind else self.inconsistent("frame kinds")
        pack, number, offset, length = reference
        what = f"{self.pack_name(pack)}, frame {number}"
        if pack not in self.packs or offset < 12 or length > MAX_CONTENT + OVERHEAD:
            raise Damage(f"{what}: {self.what} refers to it, but must not")
        with open(self.pack_path(pack), "rb") as file:
            file.seek(offset - 4)
            data = file.read(4 + length)
        if len(data) != 4 + length or int.from_bytes(data[:4], "little") != length:
            raise Damage(f"{what}: damaged (truncated, or its length is wrong)")
        if pack not in self.pack_keys:
            data_key = self.database.data_key(PACK_ID.match(pack)[1])
            self.pack_keys[pack] = data_key and derive("pack key", data_key + pack.encode())
        associated = bytes.fromhex(self.database.id) + pack.encode() + struct.pack("<I", number)
        content = self.database.repository.open_sealed(
            data[4:], self.pack_keys[pack], struct.pack("<QI", number, 0), associated, kind, MAX_CONTENT, what)
        self.cache[reference] = kind, content
        self.cached_bytes += len(content)
        while self.cached_bytes > CACHED_FRAMES and len(self.cache) > 1:
            self.cached_bytes -= len(self.cache.popitem(last=False)[1][1])
        return content

    def inconsistent(self, detail):
        raise Damage(f"{self.what}: its page map is not consistent ({detail})")

    def nodes(self, file, leaf_kind):
        """(first, count, frame references, rest of the content) of each leaf, in order, without gaps."""
        leaf_number = first = 0
        for reference in file["branches"]:
            branch = Fields(self, self.frame(self.reference(reference), BRANCH))
            begins, leaves = branch.take("<QI")
            if begins != leaf_number or not 1 <= leaves <= PER_NODE:
                self.inconsistent("order of the branches")
            references = branch.references(branch.packs(), leaves)
            branch.end()
            for leaf_reference in references:
                leaf = Fields(self, self.frame(leaf_reference, leaf_kind))
                begins, count = leaf.take("<QI")
                if begins != first or not 1 <= count <= PER_NODE:
                    self.inconsistent("order of the leaves")
                packs = leaf.packs()
                yield count, leaf.references(packs, *leaf.take("<I")), leaf
                first += count
            leaf_number += leaves

    def reference(self, value):
        if not (isinstance(value, list) and len(value) == 4 and isinstance(value[0], str)
                and all(map(is_count, value[1:]))):
            raise Damage(f"{self.what}: damaged")
        return tuple(value)

    def content(self, file):
        """The bytes of a file, piece by piece. Ends only if its digest is right."""
        try:
            length, digest, kind = file["length"], bytes.fromhex(file["digest"]), file["kind"]
            head = bytes.fromhex(file["head"]) if kind == "pages" else b""
            size = file["page_size"] if kind == "pages" else 512
            sound = is_count(length) and is_count(size) and 512 <= size <= MIB and isinstance(file["branches"], list)
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound or kind not in ("pages", "stream") or len(head) > min(65536, length):
            raise Damage(f"{self.what}: damaged")
        if kind == "pages":
            hasher = blake(struct.pack("<QII", length, size, len(head)) + head)
            yield head
            yield from self.pages(file, length - len(head), size, hasher)
        else:
            hasher = blake(b"")
            yield from self.stream(file, length, hasher)
        if hasher.digest() != digest:
            raise Damage(f"{self.what}: the digest of {printable(file['name'])} is wrong")

    def pages(self, file, left, size, hasher):
        for count, references, leaf in self.nodes(file, LEAF):
            frames, slots = leaf.take(f"<{count}I"), leaf.take(f"<{count}H")
            digests = leaf.bytes(16 * count)
            leaf.end()
            if left <= (count - 1) * size or (count < PER_NODE and left > count * size):
                self.inconsistent("number of pages")
            if frames and max(frames) >= len(references):
                self.inconsistent("frame index")
            for i, (frame, slot) in enumerate(zip(frames, slots)):
                content = self.frame(references[frame], PAGES)
                page = content[slot * size:slot * size + min(size, left)]
                if len(page) != min(size, left) or blake(page).digest()[:16] != digests[16 * i:16 * i + 16]:
                    raise Damage(f"{self.pack_name(references[frame][0])}: a page of {self.id} is not the one expected")
                left -= len(page)
                yield page
            hasher.update(digests)
        if left:
            self.inconsistent("pages are missing")

    def stream(self, file, left, hasher):
        for count, references, leaf in self.nodes(file, STREAM_LEAF):
            for _ in range(count):
                index, start, length = leaf.take("<III")
                digest = leaf.bytes(16)
                if index >= len(references) or length > left:
                    self.inconsistent("chunks")
                chunk = self.frame(references[index], STREAM)[start:start + length]
                if len(chunk) != length or blake(chunk).digest()[:16] != digest:
                    raise Damage(f"{self.pack_name(references[index][0])}: a chunk of {self.id} is not the one expected")
                left -= length
                hasher.update(chunk)
                yield chunk
            leaf.end()
        if left:
            self.inconsistent("chunks are missing")


class Fields:
    """Takes the fields of a leaf or branch from its bytes, never more than there are."""

    def __init__(self, backup, data):
        self.backup, self.data, self.at = backup, data, 0

    def bytes(self, count):
        piece = self.data[self.at:self.at + count]
        if len(piece) != count:
            self.backup.inconsistent("truncated node")
        self.at += count
        return piece

    def take(self, layout):
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def packs(self):
        return [self.bytes(*self.take("<B")).decode("ascii", "replace") for _ in range(*self.take("<H"))]

    def references(self, packs, count):
        if count * 14 > len(self.data) - self.at:
            self.backup.inconsistent("truncated node")
        found = [self.take("<HIII") for _ in range(count)]
        if any(index >= len(packs) for index, *_ in found):
            self.backup.inconsistent("pack index")
        return [(packs[index], number, offset, length) for index, number, offset, length in found]

    def end(self):
        if self.at != len(self.data):
            self.backup.inconsistent("bytes left over")


def safe_name(name):
    parts = name.split("/") if isinstance(name, str) else [""]
    if any(p in ("", ".", "..") or len(p) > 255 or not p.isprintable() or set(p) & set('\\:') for p in parts):
        raise Damage(f"the manifest names a file {printable(name)!r}, which could leave the folder: refused")
    return os.path.join(*parts)


def sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def restore(backup, folder):
    """Writes all files beside their places, completely, before the first takes its own; replaces nothing."""
    names = [safe_name(file["name"]) for file in backup.files]
    targets = [os.path.join(folder, name) for name in names]
    for target in targets:
        if os.path.lexists(target):
            raise Failure(f"{target} exists already; choose another folder")
    backup.check_packs()
    os.makedirs(folder, exist_ok=True)
    staging = tempfile.mkdtemp(prefix=".copal-restore-", dir=folder)
    try:
        for file, name in zip(backup.files, names):
            path = os.path.join(staging, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb", buffering=MIB) as output:
                for piece in backup.content(file):
                    output.write(piece)
                output.flush()
                os.fsync(output.fileno())
        for target, name in zip(targets, names):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.lexists(target):
                raise Failure(f"{target} exists already; choose another folder")
            os.rename(os.path.join(staging, name), target)
            sync_folder(os.path.dirname(target))
            print(f"restored {target}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def verify(database, wanted):
    damaged = 0
    for id in database.choose(wanted):
        try:
            backup = Backup(database, id)
            backup.check_packs()
            total = sum(len(piece) for file in backup.files for piece in backup.content(file))
            print(f"{database.name} {id}: sound, {total} bytes")
        except Damage as error:
            damaged += 1
            print(f"{database.name} {id}: {error}", file=sys.stderr)
    if damaged:
        raise Damage(f"{damaged} damaged backup(s) of {database.name}")


def show_list(repository):
    damaged = 0
    for name in repository.names():
        try:
            database = Database(repository, name)
            print(f"{name}  ({printable(database.record.get('name'))}, {printable(database.record.get('engine'))})")
        except Damage as error:
            damaged += 1
            print(error, file=sys.stderr)
            continue
        for id in database.backups():
            try:
                body = Backup(database, id).body
                marks = [mark for mark in ("pinned", "verified") if database.is_marked(id, mark)]
                print(printable("  ".join([f"  {id}", f"{body.get('logical_bytes')} bytes", *marks, body.get("label") or ""])))
            except Damage as error:
                damaged += 1
                print(error, file=sys.stderr)
    if damaged:
        raise Damage(f"{damaged} damaged object(s)")


class Secrets:
    """Where the passphrase or identity comes from; asked for only when it is needed."""

    def __init__(self, options):
        self.options, self.secret, self.is_identity = options, None, bool(options.identity)
        self.given = bool(options.passphrase_file or options.identity or os.environ.get("COPAL_PASSPHRASE"))

    def open(self, wrapped):
        """The plaintext of an age file, or None if this secret does not open it."""
        pyrage = need("pyrage")
        if self.secret is None:
            self.secret = self.load(pyrage)
        try:
            if self.is_identity:
                return pyrage.decrypt(wrapped, self.secret)
            return pyrage.passphrase.decrypt(wrapped, self.secret)
        except pyrage.DecryptError:
            return None

    def load(self, pyrage):
        try:
            if self.is_identity:
                with open(self.options.identity, encoding="utf-8") as file:
                    lines = [line.strip() for line in file if line.strip().startswith("AGE-SECRET-KEY-")]
                return [pyrage.x25519.Identity.from_str(line) for line in lines]
            if self.options.passphrase_file:
                with open(self.options.passphrase_file, encoding="utf-8") as file:
                    return re.sub(r"\r?\n\Z", "", file.read(MIB))
        except (OSError, UnicodeError, pyrage.IdentityError) as error:
            raise Wrong(f"cannot use {self.options.identity or self.options.passphrase_file}: {error}") from None
        if os.environ.get("COPAL_PASSPHRASE"):
            return os.environ["COPAL_PASSPHRASE"]
        if not sys.stdin.isatty():
            raise Wrong("the repository is encrypted: give --passphrase-file, --identity or COPAL_PASSPHRASE")
        return getpass.getpass("Passphrase: ")


def run(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", help="a local folder")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--passphrase-file")
    secret.add_argument("--identity", help="file with an age identity")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)  # secrets may also stand behind the command
    for flag in ("--passphrase-file", "--identity"):
        common.add_argument(flag, default=argparse.SUPPRESS)
    commands.add_parser("list", parents=[common])
    for command, default in (("restore", "latest"), ("verify", "all")):
        sub = commands.add_parser(command, parents=[common])
        sub.add_argument("name", help="of the database")
        sub.add_argument("--backup", default=default, metavar="ID|latest" + ("|all" if default == "all" else ""))
        if command == "restore":
            sub.add_argument("--to", required=True, metavar="FOLDER")
    options = parser.parse_args(arguments)
    repository = Repository(options.repository, Secrets(options))
    if options.command == "list":
        return show_list(repository)
    database = Database(repository, options.name)
    if options.command == "verify":
        return verify(database, options.backup)
    if options.backup == "all":
        raise Wrong("restore one backup at a time")
    return restore(Backup(database, database.choose(options.backup)[0]), options.to)


def main():
    try:
        run(sys.argv[1:])
    except Failure as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
