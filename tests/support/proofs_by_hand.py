"""Proofs written from the page "Format of proofs", by neither the maker's nor the checker's code.

Trees are computed as RFC 6962 defines them, by recursion over all leaves; `cryptography` signs. So
what a checker accepts of these was not made by anything that could share a mistake with it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ZEROS = "0" * 64
FILE_LEAVES = 65536
NULL = 0xFFFFFFFF

TEXTS = (
    "key", "target_key", "outcome", "cause", "message", "level", "level_reason", "source_etag",
    "source_version", "target_etag", "target_version", "txid", "root", "changes", "delta", "guard",
)  # fmt: skip
COMPARED = ("landed", "listed", "unsettled", "unplanned", "missing", "differing", "merged", "extra")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandReceipt:
    """One receipt, of which a leaf is made."""

    key: str
    target_key: str | None = None
    """None: the same as `key`."""
    outcome: str = "TRANSFERRED"
    size: int = 0
    crc64nvme: int | None = None
    chunk_bytes: int | None = None
    parts: int = 0
    bytes_moved: int = 0
    attempt: int = 1
    finished_ms: int = 1_795_861_388_300
    cause: str | None = None
    message: str | None = None
    level: str | None = None
    level_reason: str | None = None
    source_etag: str | None = None
    source_version: str | None = None
    target_etag: str | None = None
    target_version: str | None = None
    txid: str | None = None
    root: bytes | None = None
    changes: str | None = None
    delta: str | None = None
    guard: str | None = None

    def leaf(self) -> bytes:
        values = [getattr(self, name) for name in TEXTS]
        values[1] = self.key if self.target_key is None else self.target_key
        texts = [value.encode() if isinstance(value, str) else value for value in values]
        bits = (self.crc64nvme is not None) + 2 * (self.chunk_bytes is not None)
        head = struct.pack(
            ">BBqQqiqqq",
            1, bits, self.size, self.crc64nvme or 0, self.chunk_bytes or 0, self.parts,
            self.bytes_moved, self.attempt, self.finished_ms,
        )  # fmt: skip
        lengths = [NULL if text is None else len(text) for text in texts]
        return head + struct.pack(">16I", *lengths) + b"".join(text or b"" for text in texts)


# -- trees -----------------------------------------------------------------------------------------


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def split(count: int) -> int:
    """The largest power of two that is smaller."""
    half = 1
    while half * 2 < count:
        half *= 2
    return half


def tree_root(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    half = split(len(hashes))
    both = tree_root(hashes[:half]) + tree_root(hashes[half:])
    return hashlib.sha256(b"\x01" + both).digest()


def audit_path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    if len(hashes) == 1:
        return []
    half = split(len(hashes))
    if index < half:
        return [*audit_path(index, hashes[:half]), tree_root(hashes[half:])]
    return [*audit_path(index - half, hashes[half:]), tree_root(hashes[:half])]


def grouped(number: int) -> str:
    groups: list[str] = []
    while True:
        number, rest = divmod(number, 1000)
        groups.insert(0, f"{rest:03}")
        if not number:
            return "/".join([*(f"x{each}" for each in groups[:-1]), groups[-1]])


def tiles(hashes: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Paths below `tile` and their bytes, of all tiles of level 1 and above."""
    level = 1
    while len(hashes) >= 256**level:
        span = 256**level
        roots = [tree_root(hashes[n * span : (n + 1) * span]) for n in range(len(hashes) // span)]
        for n in range(0, len(roots), 256):
            row = roots[n : n + 256]
            partial = "" if len(row) == 256 else f".p/{len(row)}"
            yield f"{level}/{grouped(n // 256)}{partial}", b"".join(row)
        level += 1


# -- keys and checkpoints --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HandSigner:
    """An Ed25519 key with a name; the same seed gives the same signatures."""

    name: str
    seed: bytes
    kind: int
    """1: an operator's; 4: that of who cosigns."""

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        text = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(text).digest()[:4]

    @property
    def vkey(self) -> str:
        data = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{data}"

    def line(self, text: str, seconds: int = 1_795_861_400) -> str:
        data = self.key_id
        if self.kind == 4:
            data += seconds.to_bytes(8, "big")
            text = f"cosignature/v1\ntime {seconds}\n{text}"
        data += self.private.sign(text.encode())
        return f"— {self.name} {base64.b64encode(data).decode()}\n"


MOVER = HandSigner(name="example.eu/mover", seed=bytes(range(32)), kind=1)
AUDITOR = HandSigner(name="example.eu/auditor", seed=bytes(range(32, 64)), kind=4)
STRANGER = HandSigner(name="example.eu/mover", seed=b"\x07" * 32, kind=1)
"""Another key, with the operator's name."""


def escaped(text: str) -> str:
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}"
        for byte in text.encode()
    )


def counted(receipts: Sequence[HandReceipt]) -> list[str]:
    """The lines of a checkpoint that count its leaves."""
    outcomes = Counter(each.outcome for each in receipts)
    levels = Counter(each.level for each in receipts if each.level is not None)
    causes = Counter(each.cause for each in receipts if each.cause is not None)
    changes = Counter(
        name
        for each in receipts
        if each.changes is not None
        for name in set(each.changes.split(","))
    )
    sizes = {name: sum(each.size for each in receipts if each.outcome == name) for name in outcomes}
    return [
        *(f"outcome {escaped(name)} {outcomes[name]} {sizes[name]}" for name in ordered(outcomes)),
        *(f"level {escaped(name)} {levels[name]}" for name in ordered(levels)),
        *(f"cause {escaped(name)} {causes[name]}" for name in ordered(causes)),
        *(f"change {escaped(name)} {changes[name]}" for name in ordered(changes)),
        f"last-receipt {max((each.finished_ms for each in receipts), default=0)}",
    ]


def ordered(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=str.encode)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandPass:
    """One checkpoint that is to be made, and the receipts that it is about."""

    receipts: Sequence[HandReceipt]
    """In the order of their names."""
    number: int = 1
    kind: str = "moved"
    reconciled: str = "yes"
    compared: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    records: int = 0
    """Of the history, that are there when it is made."""

    def text(self, number: int, previous: str, history: Sequence[bytes], checker: str) -> str:
        leaves = [leaf_hash(each.leaf()) for each in self.receipts]
        digest = hashlib.sha256(history[self.records - 1]).hexdigest() if self.records else ZEROS
        compared = [f"reconcile {name} {self.compared.get(name, 0)}" for name in COMPARED]
        lines = [
            f"noria/d80357f2761a/{number:06}",
            str(len(leaves)),
            base64.b64encode(tree_root(leaves)).decode(),
            "noria-proof 1",
            f"job {'d80357f2761a' if self.number == 1 else f'job-{self.number}'}",
            f"pass {self.number}",
            f"receipts {self.kind}",
            f"previous {number - 1} {previous}",
            "source file:///data/lake",
            "target s3://copy/lake",
            "manifest 5388a7a38104ac1c4d0f3aebbf42738343fbefa0e8d385c3af13c42f4de2e825",
            *(f"passed-over {escaped(n)} {self.passed_over[n]}" for n in ordered(self.passed_over)),
            *counted(self.receipts),
            f"reconciled {self.reconciled}",
            *(compared if self.reconciled != "unknown" else []),
            f"history {self.records} {digest}",
            *([f"checker {checker}"] if checker else []),
            "noria 0.1.0",
        ]
        return "".join(f"{line}\n" for line in lines)


# -- a directory -----------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class HandProof:
    """A migration's checkpoints, made one after the other; `write` puts them into a folder."""

    passes: Sequence[HandPass]
    records: int = 0
    checker: bytes = b""
    operator: HandSigner = MOVER
    cosigners: Sequence[HandSigner] = (AUDITOR,)

    def history(self) -> list[bytes]:
        made: list[bytes] = []
        previous = ZEROS
        for number in range(1, self.records + 1):
            record = {"number": number, "previous": previous, "event": "pass", "who": "ops"}
            made.append(json.dumps(record).encode() + b"\n")
            previous = hashlib.sha256(made[-1]).hexdigest()
        return made

    def texts(self) -> list[str]:
        texts: list[str] = []
        previous, history = ZEROS, self.history()
        checker = hashlib.sha256(self.checker).hexdigest() if self.checker else ""
        for number, each in enumerate(self.passes, 1):
            texts.append(each.text(number, previous, history, checker))
            previous = hashlib.sha256(texts[-1].encode()).hexdigest()
        return texts

    def signed(self, text: str) -> str:
        lines = [signer.line(text) for signer in (self.operator, *self.cosigners)]
        return f"{text}\n{''.join(lines)}"

    def write(self, folder: Path) -> Path:
        """The folder `proof` in `folder`, beside `history`."""
        proof = folder / "proof"
        for number, (text, each) in enumerate(zip(self.texts(), self.passes, strict=True), 1):
            put(proof / f"{number:06}" / "checkpoint", self.signed(text).encode())
            write_tree(proof, each.receipts)
        for signer in (self.operator, *self.cosigners):
            put(proof / "keys" / f"{signer.key_id.hex()}.vkey", f"{signer.vkey}\n".encode())
        for number, record in enumerate(self.history(), 1):
            put(folder / "history" / f"{number:06}.json", record)
        if self.checker:
            put(proof / "check.py", self.checker)
        return proof

    def inclusion(self, checkpoint: int, key: str) -> str:
        """A `.tlog-proof` of the receipt with this key."""
        receipts = self.passes[checkpoint - 1].receipts
        index = [each.key for each in receipts].index(key)
        step = proof_step("extra", receipts, index)
        return f"c2sp.org/tlog-proof@v1\n{step}\n{self.signed(self.texts()[checkpoint - 1])}"

    def absence(self, checkpoint: int, key: str) -> str:
        """An `.absence-proof` of this key."""
        receipts = self.passes[checkpoint - 1].receipts
        below = [n for n, each in enumerate(receipts) if each.key.encode() < key.encode()]
        above = [n for n, each in enumerate(receipts) if each.key.encode() > key.encode()]
        steps = [proof_step("leaf", receipts, index) for index in [*below[-1:], *above[:1]]]
        name = base64.b64encode(key.encode()).decode()
        text = self.signed(self.texts()[checkpoint - 1])
        return f"noria.absence/v1\nkey {name}\n{''.join(steps)}\n{text}"


def proof_step(word: str, receipts: Sequence[HandReceipt], index: int) -> str:
    leaves = [each.leaf() for each in receipts]
    path = audit_path(index, [leaf_hash(leaf) for leaf in leaves])
    hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in path)
    return f"{word} {base64.b64encode(leaves[index]).decode()}\nindex {index}\n{hashes}"


def write_tree(proof: Path, receipts: Sequence[HandReceipt]) -> None:
    leaves = [each.leaf() for each in receipts]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    tree = proof / "trees" / tree_root(hashes).hex()
    for name, data in tiles(hashes):
        put(tree / "tile" / name, data)
    for first in range(0, len(leaves), FILE_LEAVES):
        block = leaves[first : first + FILE_LEAVES]
        data = b"".join(len(leaf).to_bytes(4, "big") + leaf for leaf in block)
        put(tree / "leaves" / f"{grouped(first // FILE_LEAVES)}.gz", gzip.compress(data, mtime=0))


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
