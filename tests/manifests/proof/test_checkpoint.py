"""The text of a checkpoint: one form, and whatever is not of it is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.manifests.model import Level, Outcome, ReceiptSummary
from noria.manifests.proof.checkpoint import RECONCILE_COUNTS, Checkpoint, read_checkpoint
from noria.manifests.proof.leaf import leaf_hash, read_leaf
from noria.manifests.proof.note import read_key, read_note, signed_bytes, taken_apart
from noria.manifests.proof.proof_files import LeafProof
from tests.support.proof_by_hand import root_by_hand

PAGE = Path(__file__).parents[3] / "docs/pages/reference/proof-format.md"

PLAIN = Checkpoint(
    migration="d80357f2761a",
    number=1,
    size=3,
    root=b"\1" * 32,
    job="d80357f2761a",
    pass_number=1,
    source="s3://a/b c%/é",
    target="file:///b",
    manifest="0" * 64,
    sums=ReceiptSummary(outcomes={Outcome.SKIPPED: 3}, outcome_bytes={Outcome.SKIPPED: 7}),
    last_receipt_ms=12,
    reconciled=None,
    version="0.1.0",
)
COUNTS = st.integers(0, 2**63 - 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def checkpoints(draw: st.DrawFn) -> Checkpoint:
    outcomes = draw(st.dictionaries(st.sampled_from(Outcome), COUNTS))
    reconciled = draw(st.sampled_from([None, True, False]))
    counts = {} if reconciled is None else {name: draw(COUNTS) for name in RECONCILE_COUNTS}
    return replace(
        PLAIN,
        number=draw(st.integers(1, 10**7)),
        size=sum(outcomes.values()),
        root=draw(st.binary(min_size=32, max_size=32)),
        previous=(draw(COUNTS), "ab" * 32),
        source=draw(WORDS),
        target=draw(WORDS),
        passed_over=draw(st.dictionaries(WORDS, COUNTS, max_size=3)),
        sums=ReceiptSummary(
            outcomes=outcomes,
            outcome_bytes={outcome: draw(COUNTS) for outcome in outcomes},
            levels=draw(st.dictionaries(st.sampled_from(Level), COUNTS)),
            causes=draw(st.dictionaries(WORDS, COUNTS, max_size=3)),
            changes=draw(st.dictionaries(WORDS, COUNTS, max_size=3)),
        ),
        reconciled=reconciled,
        reconcile=counts,
        checker=draw(st.none() | st.just("cd" * 32)),
    )


@given(checkpoints())
@settings(max_examples=80)
def test_a_checkpoint_comes_back_from_its_text(checkpoint: Checkpoint) -> None:
    text = checkpoint.encode()
    assert read_checkpoint(text) == checkpoint
    assert all(line.isascii() and line.isprintable() for line in text.decode().split("\n"))
    assert b"\n\n" not in text


def test_locations_are_written_as_printable_ascii() -> None:
    assert b"\nsource s3://a/b%20c%25/%C3%A9\n" in PLAIN.encode()


@pytest.mark.parametrize("line", range(16))
def test_a_line_that_is_missing_doubled_or_moved_is_refused(line: int) -> None:
    lines = PLAIN.encode().decode().split("\n")[:-1]
    assert len(lines) == 16
    without, doubled = lines[:line] + lines[line + 1 :], [*lines[: line + 1], *lines[line:]]
    moved = [*without, lines[line]] if line < 15 else [lines[line], *without]
    for changed in (without, doubled, moved):
        with pytest.raises(ValueError, match="checkpoint"):
            read_checkpoint("".join(f"{each}\n" for each in changed).encode())


@pytest.mark.parametrize(
    ("known", "other"),
    [
        ("noria-proof 1", "noria-proof 2"),
        ("\n3\n", "\n03\n"),
        ("pass 1", "pass one"),
        ("receipts moved", "receipts made"),
        ("reconciled unknown", "reconciled yes"),
        ("reconciled unknown", "reconciled perhaps"),
        ("outcome SKIPPED 3 7", "outcome SKIPPED 3"),
        ("outcome SKIPPED 3 7", "outcome SKIPPED 2 7"),
        ("outcome SKIPPED 3 7", "outcome MOVED 3 7"),
        ("%20", " "),
        ("%C3", "%c3"),
        ("noria 0.1.0", "noria 0.1.0\nmore 1"),
        ("/000001", "/1"),
    ],
)
def test_other_values_are_refused(known: str, other: str) -> None:
    text = PLAIN.encode().decode()
    assert known in text
    with pytest.raises(ValueError, match="checkpoint"):
        read_checkpoint(text.replace(known, other).encode())


def test_the_example_of_the_page_is_right_in_every_byte() -> None:
    """What is written there for those who write a checker."""
    example = PAGE.read_text().partition("## Example")[2]
    leaves = [
        bytes.fromhex("".join(each.split()))
        for each in re.findall(r"\n\n?((?:[0-9a-f]+\n)+)leaf hash", example)
    ]
    hashes = [bytes.fromhex(each) for each in re.findall("leaf hash ([0-9a-f]{64})", example)]
    assert [read_leaf(leaf).key for leaf in leaves] == ["1", "2", "dé"]
    assert [leaf_hash(leaf) for leaf in leaves] == hashes
    found = re.search("```text\n(noria/.*?\n)```", example, re.DOTALL)
    assert found
    note = read_note(found[1].encode())
    checkpoint = read_checkpoint(note.text)
    assert (checkpoint.size, checkpoint.root) == (3, root_by_hand(hashes))
    assert f"`{note.digest}`" in example
    keys = [read_key(line) for line in re.findall("^example.eu/.*$", example, re.MULTILINE)]
    for key, expected in zip(keys, (None, 1_795_861_400), strict=True):
        (line,) = note.of(key)
        signature, seconds = taken_apart(key, line)
        assert seconds == expected
        signed = signed_bytes(key.type, note.text, seconds or 0)
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, signed)
    path = [bytes.fromhex(hashes[0].hex()), hashes[2]]
    LeafProof(leaf=leaves[1], index=1, path=path).check(checkpoint.size, checkpoint.root)
