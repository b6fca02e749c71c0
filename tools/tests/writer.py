"""Writes small repositories as docs/format.md describes them: a second implementation, for tests only.

It knows nothing of tools/restore.py or the Rust code. Not durable, no leases, no limits.
"""

import base64
import hashlib
import hmac
import json
import os
import struct

import zstandard
from blake3 import blake3

SCRYPT_WORK = 10  # less than the format's 16, so that tests are quick


def derive(context, data):
    return blake3(data, derive_key_context="copal format 1: " + context).digest()


def age_encrypt_with_passphrase(passphrase, plain):
    """age-encryption.org/v1 with one scrypt stanza; pyrage cannot choose the work factor."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    def expand(secret, salt, info):
        return HKDF(SHA256(), 32, salt, info).derive(secret)

    def b64(data):
        return base64.b64encode(data).rstrip(b"=")

    file_key, salt = os.urandom(16), os.urandom(16)
    wrap = hashlib.scrypt(passphrase.encode(), salt=b"age-encryption.org/v1/scrypt" + salt, n=1 << SCRYPT_WORK,
                          r=8, p=1, dklen=32)
    body = ChaCha20Poly1305(wrap).encrypt(bytes(12), file_key, None)
    header = b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n---" % (b64(salt), SCRYPT_WORK, b64(body))
    mac = hmac.new(expand(file_key, b"", b"header"), header, "sha256").digest()
    nonce = os.urandom(16)
    payload = ChaCha20Poly1305(expand(file_key, nonce, b"payload")).encrypt(bytes(11) + b"\1", plain, None)
    return header + b" " + b64(mac) + b"\n" + nonce + payload


class Repository:
    def __init__(self, folder, passphrase=None, recipient=None):
        self.folder, self.id = folder, os.urandom(16).hex()
        encrypted = passphrase is not None or recipient is not None
        self.key = os.urandom(32) if encrypted else None
        mac = None
        if encrypted:
            text = f"copal.json\n1\n{self.id}\naes-256-gcm\n".encode()
            mac = blake3(text, key=derive("repository mac", self.key)).hexdigest()
            plain = f"copal-repository-key 1\n{self.id}\n{self.key.hex()}\n".encode()
            if passphrase is not None:
                self.put("keys/0a1b2c3d.age", age_encrypt_with_passphrase(passphrase, plain))
            if recipient is not None:
                import pyrage
                self.put("keys/99999999.age", pyrage.encrypt(plain, [pyrage.x25519.Recipient.from_str(recipient)]))
        self.put("copal.json", json.dumps({
            "format": 1, "repository": self.id, "encryption": "aes-256-gcm" if encrypted else "none",
            "created": "2026-11-20T15:00:00Z", "mac": mac}).encode())
        self.put("README.txt", b"A Copal repository.\n")

    def put(self, name, data):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)

    def seal(self, kind, content, key, nonce, associated, compress=True):
        body = zstandard.ZstdCompressor(level=3).compress(content) if compress else content
        frame = struct.pack("<BBHI", kind, compress, 0, len(content)) + body
        if not self.key:
            return frame + blake3(associated + frame).digest()
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        return AESGCM(key).encrypt(nonce, frame, associated)

    def put_document(self, name, kind, header, body, key):
        text = json.dumps(header).encode()
        front = b"COPALDC1" + struct.pack("<I", len(text)) + text
        nonce = os.urandom(12) if self.key else b""
        data = front + nonce + self.seal(kind, json.dumps(body).encode(), key, nonce, front)
        self.put(name, data)
        return blake3(data).hexdigest()


class Database:
    def __init__(self, repository, name, display="Shop"):
        self.repository, self.name, self.id = repository, name, os.urandom(16)
        key = repository.key and derive("database record key", repository.key + self.id)
        repository.put_document(f"databases/{name}/database", 17, {"format": 1, "database": self.id.hex()},
                                {"name": display, "source": "/srv/shop.db", "engine": "sqlite",
                                 "created": "2026-11-20T15:00:00Z"}, key)

    def data_key(self, backup):
        key = self.repository.key
        return key and derive("backup data key", key + self.id + backup.encode())


class Backup:
    """One backup in the making. A file's pages or chunks are kept as (frame reference, slot or start) for sharing."""

    def __init__(self, database, id, frames_per_pack=7):
        self.database, self.id, self.frames_per_pack = database, id, frames_per_pack
        self.sizes, self.needed, self.files = {}, [], []
        self.pack, self.count, self.data = None, 0, b""

    def frame(self, kind, content, compress=True):
        if self.pack is None or self.count == self.frames_per_pack:
            self.end_pack()
            self.pack, self.count, self.data = f"{self.id}-{len(self.sizes)}-{os.urandom(8).hex()}", 0, b"COPALPK1"
        number, repository = self.count, self.database.repository
        data_key = self.database.data_key(self.id)
        sealed = repository.seal(
            kind, content, data_key and derive("pack key", data_key + self.pack.encode()),
            struct.pack("<Q", number) + bytes(4),
            self.database.id + self.pack.encode() + struct.pack("<I", number), compress)
        reference = (self.pack, number, len(self.data) + 4, len(sealed))
        self.data += struct.pack("<I", len(sealed)) + sealed
        self.count += 1
        return reference

    def end_pack(self):
        if self.pack is not None:
            self.database.repository.put(f"databases/{self.database.name}/packs/{self.pack}", self.data)
            self.sizes[self.pack] = len(self.data)
        self.pack = None

    def need(self, reference):
        if reference[0] not in self.needed:
            self.needed.append(reference[0])

    def reference_table(self, references):
        packs = sorted({reference[0] for reference in references})
        table = struct.pack("<H", len(packs))
        for pack in packs:
            table += struct.pack("<B", len(pack)) + pack.encode()
        rows = [struct.pack("<HIII", packs.index(pack), *rest) for pack, *rest in references]
        for reference in references:
            self.need(reference)
        return table, rows

    def tree(self, leaves, kind, per_branch=4096):
        """Frames for leaf contents (or references of leaves to share) and the branches above them."""
        references = [leaf if isinstance(leaf, tuple) else self.frame(kind, leaf) for leaf in leaves]
        branches = []
        for first in range(0, len(references), per_branch):
            table, rows = self.reference_table(references[first:first + per_branch])
            branches.append(self.frame(3, struct.pack("<QI", first, len(rows)) + table + b"".join(rows)))
            self.need(branches[-1])
        return references, [list(branch) for branch in branches]

    def page_file(self, name, data, page_size, head_size=0, base=None, per_frame=64, per_branch=4096):
        """Stores changed pages only, if base (what this function returned for the file before) is given."""
        head, pages = data[:head_size], []
        for at in range(head_size, len(data), page_size):
            pages.append(data[at:at + page_size])
        digests = [blake3(page).digest()[:16] for page in pages]
        old = base["map"] if base else []
        places = [old[i][1] if i < len(old) and old[i][0] == digest else None for i, digest in enumerate(digests)]
        changed = [i for i, place in enumerate(places) if place is None]
        for first in range(0, len(changed), per_frame):
            group = changed[first:first + per_frame]
            reference = self.frame(1, b"".join(pages[i].ljust(page_size, b"\0") for i in group), first % 3 != 0)
            for slot, i in enumerate(group):
                places[i] = (reference, slot)
        leaves = []
        for first in range(0, len(pages), 4096):
            part = list(zip(digests, places))[first:first + 4096]
            if base and base["map"][first:first + 4096] == part:
                leaves.append(base["leaves"][first // 4096])
                for _, (reference, _) in part:
                    self.need(reference)
                continue
            frames = sorted({reference for _, (reference, _) in part})
            table, rows = self.reference_table(frames)
            leaves.append(struct.pack("<QI", first, len(part)) + table + struct.pack("<I", len(rows)) + b"".join(rows)
                          + b"".join(struct.pack("<I", frames.index(reference)) for _, (reference, _) in part)
                          + b"".join(struct.pack("<H", slot) for _, (_, slot) in part)
                          + b"".join(digest for digest, _ in part))
        for leaf in leaves:
            if isinstance(leaf, tuple):
                self.need(leaf)
        references, branches = self.tree(leaves, 2, per_branch)
        digest = blake3(struct.pack("<QII", len(data), page_size, len(head)) + head + b"".join(digests)).hexdigest()
        self.files.append({"name": name, "kind": "pages", "length": len(data), "page_size": page_size,
                           "head": head.hex(), "digest": digest, "branches": branches})
        return {"map": list(zip(digests, places)), "leaves": references}

    def stream_file(self, name, data, chunk=100_000, chunks_per_frame=10, chunks_per_leaf=4096):
        chunks = [data[at:at + chunk] for at in range(0, len(data), chunk)]
        places = []
        for first in range(0, len(chunks), chunks_per_frame):
            group = chunks[first:first + chunks_per_frame]
            reference, start = self.frame(4, b"".join(group)), 0
            for piece in group:
                places.append((reference, start, piece))
                start += len(piece)
        leaves = []
        for first in range(0, len(places), chunks_per_leaf):
            part = places[first:first + chunks_per_leaf]
            frames = sorted({reference for reference, _, _ in part})
            table, rows = self.reference_table(frames)
            leaf = struct.pack("<QI", first, len(part)) + table + struct.pack("<I", len(rows)) + b"".join(rows)
            for reference, start, piece in part:
                leaf += struct.pack("<III", frames.index(reference), start, len(piece)) + blake3(piece).digest()[:16]
            leaves.append(leaf)
        _, branches = self.tree(leaves, 5)
        self.files.append({"name": name, "kind": "stream", "length": len(data), "digest": blake3(data).hexdigest(),
                           "branches": branches})

    def finish(self, all_sizes, predecessor=None, label=None, **more):
        """Writes the manifest; its hash. all_sizes collects the sizes of all packs of the database."""
        self.end_pack()
        all_sizes.update(self.sizes)
        database, repository = self.database, self.database.repository
        header = {"format": 1, "database": database.id.hex(), "backup": self.id, "time": "2026-11-20T15:30:00Z",
                  "predecessor": predecessor, "packs": [[pack, all_sizes[pack]] for pack in self.needed],
                  "promise": {"schedule": None, "max_age_seconds": None}}
        body = {"engine": "sqlite", "engine_version": "3.50", "copal_version": "0.1.0", "host": "h", "name": "Shop",
                "source": "/srv/shop.db", "label": label, "captured_at": "2026-11-20T15:30:00Z", "base": predecessor,
                "files": self.files, "pack_use": [[0, 0] for _ in self.needed],
                "logical_bytes": sum(file["length"] for file in self.files), "added_bytes": sum(self.sizes.values()),
                "stored_bytes": sum(all_sizes[pack] for pack in self.needed),
                "inventory": {"facts": {}, "tables": []}, "position": None, "notes": [], "warnings": [],
                **more}
        data_key = database.data_key(self.id)
        return repository.put_document(f"databases/{database.name}/backups/{self.id}", 16, header, body,
                                       data_key and derive("manifest key", data_key))

    def finish_segment(self, base, sequence, hash, time="2026-11-20T15:31:00Z", **header):
        """Writes what was made as a segment that follows this state, in the place of a manifest; its hash."""
        self.end_pack()
        database, repository = self.database, self.database.repository
        header = {"format": 1, "database": database.id.hex(), "segment": self.id, "time": time,
                  "follows": {"base": base, "sequence": sequence, "hash": hash},
                  "packs": [[pack, self.sizes[pack]] for pack in self.needed], **header}
        body = {"engine": "memory", "engine_version": "1", "copal_version": "0.1.0", "host": "h", "files": self.files,
                "pack_use": [[0, 0] for _ in self.needed], "added_bytes": sum(self.sizes.values()),
                "logical_bytes": sum(file["length"] for file in self.files),
                "inventory": {"facts": {}, "tables": []}, "position": None, "notes": []}
        data_key = database.data_key(self.id)
        return repository.put_document(f"databases/{database.name}/journal/{self.id}", 19, header, body,
                                       data_key and derive("segment key", data_key))
