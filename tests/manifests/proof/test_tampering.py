"""A thousand random tamperings: none passes, unless it has changed nothing that is proved."""

from __future__ import annotations

import gzip
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.checker import CHECKER, HOLDS, NOT_CHECKED, REFUSED, checked
from tests.support.proofs_by_hand import AUDITOR, MOVER, HandPass, HandProof, HandReceipt

KEYS = ("--key", MOVER.vkey, "--key", AUDITOR.vkey)
TAMPERINGS = 250
SEEDS = range(4)

WORDS = ("ingested", "chained", "reread")
FIRST = [
    HandReceipt(key=f"lake/{n:04}", size=n, level=WORDS[n % 3], crc64nvme=n, txid=f"t{n}")
    for n in range(300)
]
AGAIN = [replace(FIRST[0], outcome="FAILED", cause="denied", level=None), *FIRST[1:]]
SECOND = [HandReceipt(key="lake/0007", size=7, level="ingested", delta="etag")]
PROOF = HandProof(
    passes=[
        HandPass(receipts=AGAIN, records=1),
        HandPass(receipts=FIRST, records=1),
        HandPass(receipts=[replace(FIRST[3], level="reread")], kind="read-back", records=1),
        HandPass(receipts=SECOND, number=2, records=2, passed_over={"folder_stub": 1}),
    ],
    records=2,
    checker=CHECKER.read_bytes(),
)

TEXTS = [text.encode()[:-1] for text in PROOF.texts()]
SIGNED = {
    (who.kind, text): who.line(f"{text.decode()}\n").encode()
    for text in TEXTS
    for who in (MOVER, AUDITOR)
}
"""Lines of the signatures that are needed."""

Tampering = Callable[[random.Random, bytes, bytes], bytes]
"""A file's bytes, and those of another one, become other bytes."""


def bit_flipped(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def bytes_removed(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 40) :]


def bytes_repeated(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[at:]


def bytes_inserted(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]


def bytes_exchanged(rng: random.Random, data: bytes, other: bytes) -> bytes:
    width = rng.randint(1, max(1, len(data) // 3))
    one, two = sorted(rng.randrange(len(data)) for _ in range(2))
    first, second = data[one : one + width], data[two : two + width]
    return data[:one] + second + data[one + width : two] + first + data[two + width :]


def cut_off(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def a_digit_changed(rng: random.Random, data: bytes, other: bytes) -> bytes:
    places = [at for at, byte in enumerate(data) if byte in b"0123456789"]
    if not places:
        return data
    at = rng.choice(places)
    return data[:at] + str(rng.randrange(10)).encode() + data[at + 1 :]


def a_line_removed(rng: random.Random, data: bytes, other: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def lines_exchanged(rng: random.Random, data: bytes, other: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    one, two = (rng.randrange(len(lines)) for _ in range(2))
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


def a_line_of_another(rng: random.Random, data: bytes, other: bytes) -> bytes:
    lines, others = (text.splitlines(keepends=True) for text in (data, other))
    lines[rng.randrange(len(lines))] = rng.choice(others)
    return b"".join(lines)


def another_file(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return other


TEXT: list[Tampering] = [
    bit_flipped, bytes_removed, bytes_repeated, bytes_inserted, bytes_exchanged, cut_off,
    a_digit_changed, a_line_removed, lines_exchanged, a_line_of_another, another_file,
]  # fmt: skip
BYTES: list[Tampering] = [*TEXT[:7], another_file]


def unpacked(data: bytes) -> bytes | None:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


def meaning(folder: Path) -> dict[str, object]:
    """What is proved in a folder, as plainly as can be: two folders of one meaning may both hold.

    Of leaves it is what they unpack to; of checkpoints the text, and, where they are needed, the
    lines of those signatures that are trusted. A tile that is not there changes nothing.
    """
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.suffix == ".vkey":
            continue
        data = path.read_bytes()
        if path.suffix == ".gz":
            found[name] = unpacked(data)
        elif path.name == "checkpoint":
            text, _, signatures = data.partition(b"\n\n")
            lines = signatures.splitlines(keepends=True)
            needed = {"000001": [], "000004": [MOVER, AUDITOR]}.get(path.parent.name, [MOVER])
            found[name] = (
                text,
                {
                    n
                    for n, who in enumerate(needed)
                    if who.line(text.decode() + "\n").encode() in lines
                }
                if text in TEXTS
                else lines,
            )
        elif "/tile/" not in name or data != TILES.get(name):
            found[name] = data
    return found


TILES: dict[str, bytes] = {}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_tamperings_of_a_directory(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    proof = PROOF.write(tmp_path)
    TILES.update(
        (path.relative_to(tmp_path).as_posix(), path.read_bytes())
        for path in proof.glob("trees/*/tile/**/*")
        if path.is_file()
    )
    assert checked(*KEYS, proof).code == HOLDS
    before = meaning(tmp_path)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    verdicts: Counter[int] = Counter()
    for _ in range(TAMPERINGS):
        path, other = rng.choice(paths), rng.choice(paths)
        kept = path.read_bytes()
        way = rng.choice(
            BYTES if path.suffix in (".gz", "") and path.name != "checkpoint" else TEXT
        )
        path.write_bytes(way(rng, kept, other.read_bytes()))
        what = f"{way.__name__} in {path.relative_to(tmp_path)}"
        if path.suffix == ".gz" and rng.random() < 0.8:
            path.write_bytes(gzip.compress(way(rng, gzip.decompress(kept), b"x" * 300)))
            what = f"leaves: {what}"
        found = checked(*KEYS, proof)
        assert found.code in (HOLDS, REFUSED), f"{what}\n{found.said}"
        if found.code == HOLDS:
            assert meaning(tmp_path) == before, f"{what}\n{found.said}"
        verdicts[found.code] += 1
        path.write_bytes(kept)
    assert checked(*KEYS, proof).code == HOLDS
    assert verdicts[REFUSED] > TAMPERINGS * 0.6, verdicts


@pytest.mark.parametrize("which", ["inclusion", "absence"])
def test_random_tamperings_of_one_proof(tmp_path: Path, which: str) -> None:
    rng = random.Random(which)
    small = HandProof(passes=[HandPass(receipts=FIRST[:21])])
    made = {"inclusion": small.inclusion(1, "lake/0013"), "absence": small.absence(1, "lake/0013x")}
    text, other = made[which], made["absence" if which == "inclusion" else "inclusion"]
    path = tmp_path / "it"
    path.write_bytes(text.encode())
    expected = HOLDS if which == "inclusion" else NOT_CHECKED
    name = ("--name", "lake/0013" if which == "inclusion" else "lake/0013x")
    assert checked(*KEYS, *name, path).code == expected
    for _ in range(TAMPERINGS):
        way = rng.choice(TEXT[:-1])
        data = way(rng, text.encode(), other.encode())
        path.write_bytes(data)
        found = checked(*KEYS, *name, path)
        assert found.code == REFUSED or data == text.encode(), f"{way.__name__}\n{found.said}"


@pytest.mark.parametrize("gone", ["leaves", "tile", "history", "000001", "000003", "000004"])
def test_what_is_removed_is_missed(tmp_path: Path, gone: str) -> None:
    """A tile is the exception, since no check rests on it. A cut end shows beside a copy alone."""
    proof = PROOF.write(tmp_path)
    expected = {"tile": HOLDS, "leaves": NOT_CHECKED, "history": NOT_CHECKED, "000004": HOLDS}
    for path in [*tmp_path.rglob(gone)]:
        path.rename(path.with_name(f".{gone}"))
    assert checked(*KEYS, proof).code == expected.get(gone, REFUSED)
