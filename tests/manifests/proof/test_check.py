"""The checker takes proofs that are made as the page says, and no others."""

from __future__ import annotations

import ast
import base64
import gzip
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.benchmarks.servers import ROOT
from noria.manifests.proof import check
from tests.support.checker import (
    CHECKER,
    HOLDS,
    NOT_CHECKED,
    REFUSED,
    checked,
    checked_alone,
)
from tests.support.proofs_by_hand import (
    AUDITOR,
    MOVER,
    STRANGER,
    HandPass,
    HandProof,
    HandReceipt,
    leaf_hash,
    tree_root,
    write_tree,
)

PAGE = ROOT / "docs/pages/reference/proof-format.md"
KEYS = ("--key", MOVER.vkey, "--key", AUDITOR.vkey)

MOVED = [
    HandReceipt(key="2026/a", size=4, level="chained", crc64nvme=7, chunk_bytes=8, root=b"r" * 32),
    HandReceipt(key="2026/b", size=0, level="ingested", changes="tags,cache_control"),
    HandReceipt(key="b", size=9, outcome="FAILED", cause="denied", message="no", finished_ms=5),
    HandReceipt(key="dé", outcome="SKIPPED", cause="folder_stub", changes="tags,tags"),
]
LATER = [
    HandReceipt(key="2026/a", size=6, level="ingested", delta="etag", guard="if_match"),
    HandReceipt(key="2026/b", outcome="DELETED", delta="gone"),
]
PASSES = [
    HandPass(receipts=MOVED, passed_over={"no rights": 2, "é": 1}, records=1),
    HandPass(receipts=MOVED, reconciled="no", compared={"missing": 1}, records=1),
    HandPass(receipts=[replace(MOVED[0], level="reread")], kind="read-back", records=2),
    HandPass(receipts=LATER, number=2, records=3),
    HandPass(receipts=[], number=3, records=3, reconciled="unknown"),
]
PROOF = HandProof(passes=PASSES, records=4, checker=CHECKER.read_bytes())


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


# -- what it takes ---------------------------------------------------------------------------------


def test_a_whole_migration_holds(tmp_path: Path) -> None:
    found = checked(*KEYS, PROOF.write(tmp_path))
    assert found.code == HOLDS, found.said
    for line in ("1, pass 1, replaced", "3, pass 1, read-back", "4, pass 2, moved"):
        assert f"checkpoint {line}: signed by example.eu/mover; cosigned on Sat" in found.said
    assert "cosigned on Sat Nov 28 10:23:20 2026 UTC by example.eu/auditor" in found.said
    assert "NOT CHECKED" not in found.said


def test_it_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    proof = PROOF.write(tmp_path)
    found = checked_alone(tmp_path, Path(sys.executable), *KEYS, proof)
    assert found.code == HOLDS, found.said


def pythons_of_others() -> list[Path]:
    """Other Pythons of this machine, from 3.9 on."""
    versions = Path.home().glob(".pyenv/versions/3.*/bin/python")
    return sorted(each for each in versions if int(each.parts[-3].split(".")[1]) >= 9)


@pytest.mark.parametrize("python", pythons_of_others(), ids=lambda path: path.parts[-3])
def test_other_pythons_say_the_same(tmp_path: Path, python: Path) -> None:
    proof = PROOF.write(tmp_path)
    inclusion = write(tmp_path / "a.tlog-proof", PROOF.inclusion(4, "2026/a"))
    absence = write(tmp_path / "b.absence-proof", PROOF.absence(4, "b"))
    arguments: list[str | Path] = [*KEYS, proof, inclusion, absence]
    found = checked_alone(tmp_path, python, *arguments)
    assert (found.code, found.said) == (HOLDS, checked(*arguments).said)
    write(proof / "000002" / "checkpoint", PROOF.texts()[0] + "\n")
    assert checked_alone(tmp_path, python, *arguments).code == REFUSED


def test_the_example_of_the_page_holds(tmp_path: Path) -> None:
    page = PAGE.read_text()
    start = page.index("noria/d80357f2761a/000001\n3\n")
    checkpoint = page[start : page.index("```", start)]
    example = page[page.index("\n## Example") :]
    folded = example[example.index("```text\n") + 8 :].split("```")[0].strip().split("\n\n")
    leaves = [bytes.fromhex("".join(each.split("leaf hash")[0].split())) for each in folded]
    steps = example[example.index("index 1\n") :].split("```")[0]
    proof = (
        f"c2sp.org/tlog-proof@v1\nextra {base64.b64encode(leaves[1]).decode()}\n"
        f"{steps}\n{checkpoint}"
    )
    found = checked(*KEYS, "--name", "2", write(tmp_path / "2.tlog-proof", proof))
    assert found.code == HOLDS, found.said
    assert "'2' 'FAILED', 3 bytes" in found.said
    assert hashlib.sha256(checkpoint.split("\n\n")[0].encode() + b"\n").hexdigest() in page


@settings(max_examples=25)
@given(count=st.integers(0, 600), data=st.data())
def test_trees_of_all_sizes(
    tmp_path_factory: pytest.TempPathFactory, count: int, data: st.DataObject
) -> None:
    receipts = [HandReceipt(key=f"k{n:05}", size=n, level="ingested") for n in range(count)]
    made = HandProof(passes=[HandPass(receipts=receipts)], cosigners=())
    folder = tmp_path_factory.mktemp("tree")
    paths = [made.write(folder)]
    name = f"k{data.draw(st.integers(0, 605)):05}"
    if name < f"k{count:05}":
        paths.append(write(folder / "it.tlog-proof", made.inclusion(1, name)))
    else:
        paths.append(write(folder / "it.absence-proof", made.absence(1, name)))
    paths.append(write(folder / "between.absence-proof", made.absence(1, name + "!")))
    found = checked("--key", MOVER.vkey, *paths)
    assert found.code == HOLDS, found.said
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_leaves_in_two_files(tmp_path: Path) -> None:
    receipts = [HandReceipt(key=f"k{n:06}", level="counted") for n in range(65536 + 300)]
    made = HandProof(passes=[HandPass(receipts=receipts)])
    proof = made.write(tmp_path)
    assert checked(*KEYS, proof).code == HOLDS
    tree = next((proof / "trees").iterdir())
    assert (tree / "tile/2/000.p/1").exists()
    (tree / "leaves/001.gz").unlink()
    assert checked(*KEYS, proof).code == REFUSED


def test_a_signature_of_somebody_unknown_is_passed_over(tmp_path: Path) -> None:
    made = replace(PROOF, cosigners=(AUDITOR, STRANGER, replace(STRANGER, name="who", kind=4)))
    assert checked(*KEYS, made.write(tmp_path)).code == HOLDS


# -- what it does not claim ------------------------------------------------------------------------


def test_without_a_key_nobody_is_trusted(tmp_path: Path) -> None:
    found = checked(PROOF.write(tmp_path))
    assert found.code == NOT_CHECKED
    assert "NOT CHECKED: who has signed" in found.said


def test_leaves_that_are_not_there_are_not_checked(tmp_path: Path) -> None:
    proof = PROOF.write(tmp_path)
    for leaves in (proof / "trees").glob("*/leaves"):
        shutil.rmtree(leaves)
    found = checked(*KEYS, proof)
    assert found.code == NOT_CHECKED
    assert found.said.count("NOT CHECKED: checkpoint ") == 3, "those of pass 3 are none"


def test_a_history_that_is_not_there_is_not_checked(tmp_path: Path) -> None:
    proof = PROOF.write(tmp_path)
    shutil.rmtree(tmp_path / "history")
    found = checked(*KEYS, proof)
    assert found.code == NOT_CHECKED
    assert "NOT CHECKED: the history: " in found.said


def test_absence_alone_rests_on_an_order_that_is_not_checked(tmp_path: Path) -> None:
    absence = write(tmp_path / "a.absence-proof", PROOF.absence(4, "2026/aa"))
    assert checked(*KEYS, absence).code == NOT_CHECKED
    assert checked(*KEYS, absence, PROOF.write(tmp_path)).code == HOLDS


def test_a_superseded_checkpoint_may_be_unsigned_but_that_is_said(tmp_path: Path) -> None:
    proof = PROOF.write(tmp_path)
    write(proof / "000001/checkpoint", PROOF.texts()[0] + "\n")
    found = checked(*KEYS, proof)
    assert found.code == HOLDS
    assert "checkpoint 1, pass 1, replaced: not signed by a trusted key" in found.said


# -- forgeries of whole proofs ---------------------------------------------------------------------


def levels_raised(made: HandProof) -> HandProof:
    """What is said of one object is better than it was; all digests and counts are made again."""
    better = [replace(MOVED[1], level="reread") if r is MOVED[1] else r for r in MOVED]
    return replace(
        made,
        passes=[replace(p, receipts=better) if p.receipts is MOVED else p for p in made.passes],
    )


FORGERIES: dict[str, Callable[[], HandProof]] = {
    "by a stranger with the operator's name": lambda: replace(PROOF, operator=STRANGER),
    "by a stranger, with a better level": lambda: levels_raised(replace(PROOF, operator=STRANGER)),
    "cosigned alone": lambda: replace(PROOF, operator=AUDITOR),
    "the same Ed25519 key as a cosigner": lambda: replace(PROOF, operator=replace(MOVER, kind=4)),
    "the same key with another name": lambda: replace(PROOF, operator=replace(MOVER, name="me")),
    "not cosigned": lambda: replace(PROOF, cosigners=()),
    "cosigned by a stranger": lambda: replace(PROOF, cosigners=(replace(AUDITOR, seed=b"x" * 32),)),
    "names out of order": lambda: replaced(MOVED[1], MOVED[0], *MOVED[2:]),
    "a name twice": lambda: replaced(MOVED[0], MOVED[0], *MOVED[1:]),
}
"""The operator's own are those of a mover who lies: signed well, but not of the form."""


def replaced(*receipts: HandReceipt) -> HandProof:
    return replace(PROOF, passes=[replace(PASSES[0], receipts=receipts, records=0)])


@pytest.mark.parametrize("name", FORGERIES)
def test_forged(tmp_path: Path, name: str) -> None:
    found = checked(*KEYS, FORGERIES[name]().write(tmp_path))
    assert found.code == REFUSED, found.said


def test_an_edited_receipt_whose_digests_are_made_again_is_refused(tmp_path: Path) -> None:
    """The forger has no key: he keeps the signatures, or makes his own and puts his key there."""
    proof = PROOF.write(tmp_path)
    forged = levels_raised(PROOF)
    for number, text in enumerate(forged.texts(), 1):
        path = proof / f"{number:06}/checkpoint"
        write(path, f"{text}\n{path.read_text().split(chr(10) * 2)[1]}")
        write_tree(proof, forged.passes[number - 1].receipts)
    assert checked(*KEYS, proof).code == REFUSED
    shutil.rmtree(proof)
    replace(forged, operator=STRANGER).write(tmp_path)
    found = checked(*KEYS, proof)
    assert found.code == REFUSED
    assert checked("--key", STRANGER.vkey, proof).code == HOLDS, "who trusts the forger"


def test_leaves_of_another_tree_under_a_signed_root(tmp_path: Path) -> None:
    proof = PROOF.write(tmp_path)
    forged = levels_raised(PROOF).passes[0].receipts
    write_tree(proof, forged)
    real, other = (
        proof / "trees" / tree_root([leaf_hash(each.leaf()) for each in receipts]).hex()
        for receipts in (MOVED, forged)
    )
    shutil.rmtree(real)
    other.rename(real)
    assert checked(*KEYS, proof).code == REFUSED


LINES: dict[str, Callable[[str], str]] = {
    "a count": lambda text: text.replace("level chained 1", "level chained 2"),
    "a sum of bytes": lambda text: text.replace("TRANSFERRED 2 4", "TRANSFERRED 2 5"),
    "an outcome less": lambda text: text.replace("outcome FAILED 1 9\n", ""),
    "a cause more": lambda text: text.replace("cause denied 1", "cause absent 1\ncause denied 1"),
    "a change less": lambda text: text.replace("change tags 2", "change tags 1"),
    "a later receipt": lambda text: text.replace("last-receipt 1", "last-receipt 2"),
    "a larger tree": lambda text: text.replace("/000001\n4\n", "/000001\n5\n"),
    "a smaller tree": lambda text: text.replace("/000001\n4\n", "/000001\n3\n"),
    "outcomes out of order": lambda text: text.replace(
        "outcome FAILED 1 9\noutcome SKIPPED 1 0\n", "outcome SKIPPED 1 0\noutcome FAILED 1 9\n"
    ),
    "causes passed over out of order": lambda text: text.replace(
        "passed-over no%20rights 2\npassed-over %C3%A9 1\n",
        "passed-over %C3%A9 1\npassed-over no%20rights 2\n",
    ),
    "a cause passed over twice": lambda text: text.replace(
        "passed-over no%20rights 2\n", "passed-over no%20rights 2\n" * 2
    ),
    "lower-case escapes": lambda text: text.replace("%C3%A9", "%c3%a9"),
    "an escape without need": lambda text: text.replace("no%20rights", "n%6F%20rights"),
    "an unknown line": lambda text: text.replace("noria 0.1.0", "nothing 1\nnoria 0.1.0"),
    "a line twice": lambda text: text.replace("pass 1\n", "pass 1\npass 1\n"),
    "another version": lambda text: text.replace("noria-proof 1", "noria-proof 2"),
    "a pass 0": lambda text: text.replace("pass 1\n", "pass 0\n"),
    "a leading zero": lambda text: text.replace("level chained 1", "level chained 01"),
    "digits that are not ASCII": lambda text: text.replace("chained 1", "chained \u0661"),
    "a number too short": lambda text: text.replace("/000001\n", "/1\n"),
    "a number too long": lambda text: text.replace("/000001\n", "/0000001\n"),
    "another number": lambda text: text.replace("/000001\n", "/000002\n"),
    "two spaces": lambda text: text.replace("pass 1\n", "pass  1\n"),
    "a trailing space": lambda text: text.replace("pass 1\n", "pass 1 \n"),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "a previous one": lambda text: text.replace("previous 0 0", "previous 0 1"),
    "a reconcile that is cut off": lambda text: text.replace("reconcile extra 0\n", ""),
    "reconciled, maybe": lambda text: text.replace("reconciled yes", "reconciled maybe"),
    "counts of an unknown reconcile": lambda text: text.replace("ed yes", "ed unknown"),
    "another record": lambda text: text.replace("history 1 ", "history 2 "),
    "a record too many": lambda text: text.replace("history 1 ", "history 9 "),
    "no record, with a digest": lambda text: text.replace("history 1 ", "history 0 "),
    "another checker": lambda text: text.replace("checker ", "checker 0")[:-1] + "\n",
    "a root with loose bits": lambda text: text.replace("=\nnoria-proof", "\nnoria-proof"),
    "a form feed in a value": lambda text: text.replace("copy/lake", "copy\f/lake"),
    "a byte-order mark": lambda text: "\ufeff" + text,
}


@pytest.mark.parametrize("name", LINES)
def test_a_text_that_was_signed_but_is_wrong(tmp_path: Path, name: str) -> None:
    """As a mover who lies, or whose code is wrong, would have signed it."""
    made = replace(PROOF, passes=PASSES[:1])
    proof = made.write(tmp_path)
    assert checked(*KEYS, proof).code == HOLDS
    text = LINES[name](made.texts()[0])
    assert text != made.texts()[0]
    write(proof / "000001/checkpoint", made.signed(text))
    found = checked(*KEYS, proof)
    assert found.code == REFUSED, found.said


LEAVES: dict[str, Callable[[bytes], bytes]] = {
    "version 0": lambda leaf: b"\0" + leaf[1:],
    "another bit": lambda leaf: leaf[:1] + bytes([leaf[1] | 4]) + leaf[2:],
    "a checksum that is not there": lambda leaf: leaf[:1] + bytes([leaf[1] & ~1]) + leaf[2:],
    "chunks that are not there": lambda leaf: leaf[:1] + bytes([leaf[1] & ~2]) + leaf[2:],
    "a byte too many": lambda leaf: leaf + b"\0",
    "a byte too few": lambda leaf: leaf[:-1],
    "a head alone": lambda leaf: leaf[:118],
    "half a head": lambda leaf: leaf[:60],
    "nothing": lambda leaf: b"",
    "no name": lambda leaf: leaf[:54] + b"\xff" * 4 + leaf[58:],
    "no name at the target": lambda leaf: leaf[:58] + b"\xff" * 4 + leaf[62:],
    "no outcome": lambda leaf: leaf[:62] + b"\xff" * 4 + leaf[66:],
    "a name that is not UTF-8": lambda leaf: leaf.replace(b"2026/a", b"2026/\xff"),
    "a short root": lambda leaf: leaf[:102] + (31).to_bytes(4, "big") + leaf[106:-1],
    "a length beyond the end": lambda leaf: leaf[:114] + (9).to_bytes(4, "big") + leaf[118:],
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_that_was_signed_but_is_malformed(tmp_path: Path, name: str) -> None:
    made = replace(PROOF, passes=PASSES[:1])
    proof = made.write(tmp_path)
    leaves = [each.leaf() for each in MOVED]
    leaf = LEAVES[name](leaves[0])
    assert leaf != leaves[0]
    before, after = (
        tree_root([leaf_hash(each) for each in each_leaves])
        for each_leaves in (leaves, [leaf, *leaves[1:]])
    )
    data = b"".join(len(each).to_bytes(4, "big") + each for each in [leaf, *leaves[1:]])
    (proof / "trees" / before.hex()).rename(proof / "trees" / after.hex())
    (proof / "trees" / after.hex() / "leaves/000.gz").write_bytes(gzip.compress(data))
    old, new = (base64.b64encode(each).decode() for each in (before, after))
    write(proof / "000001/checkpoint", made.signed(made.texts()[0].replace(old, new)))
    found = checked(*KEYS, proof)
    assert found.code == REFUSED, found.said


# -- chains ----------------------------------------------------------------------------------------


def exchange(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def renumber(proof: Path, number: int) -> None:
    """Remove a checkpoint, and close the gap in the names of those behind it."""
    shutil.rmtree(proof / f"{number:06}")
    for later in range(number + 1, len(PASSES) + 1):
        (proof / f"{later:06}").rename(proof / f"{later - 1:06}")


def remove_all(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        shutil.rmtree(folder)


CHAINS: dict[str, Callable[[Path], object]] = {
    "the first one is gone": lambda proof: shutil.rmtree(proof / "000001"),
    "one is gone": lambda proof: shutil.rmtree(proof / "000002"),
    "one is gone, others moved up": lambda proof: renumber(proof, 2),
    "all are gone": lambda proof: remove_all(proof.glob("0*")),
    "two are exchanged": lambda proof: exchange(
        proof / "000001/checkpoint", proof / "000002/checkpoint"
    ),
    "one is of another pass": lambda proof: shutil.copy(
        proof / "000004/checkpoint", proof / "000005/checkpoint"
    ),
    "one more": lambda proof: shutil.copytree(proof / "000005", proof / "000006"),
    "the last of a pass is unsigned": lambda proof: write(
        proof / "000004/checkpoint", PROOF.texts()[3] + "\n"
    ),
    "signatures of another one": lambda proof: write(
        proof / "000004/checkpoint",
        PROOF.texts()[3] + "\n" + PROOF.signed(PROOF.texts()[2]).split("\n\n")[1],
    ),
    "a record changed": lambda proof: write(
        proof.parent / "history/000002.json",
        (proof.parent / "history/000002.json").read_text().replace("ops", "cio"),
    ),
    "a record gone": lambda proof: (proof.parent / "history/000001.json").unlink(),
    "records exchanged": lambda proof: exchange(
        proof.parent / "history/000001.json", proof.parent / "history/000002.json"
    ),
    "the checker changed": lambda proof: write(proof / "check.py", "print('all of it holds')\n"),
    "the checker gone": lambda proof: (proof / "check.py").unlink(),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_that_is_broken(tmp_path: Path, name: str) -> None:
    proof = PROOF.write(tmp_path)
    CHAINS[name](proof)
    found = checked(*KEYS, proof)
    assert found.code == REFUSED, found.said


def test_checkpoints_of_two_migrations_are_no_chain(tmp_path: Path) -> None:
    proof = PROOF.write(tmp_path)
    write(
        proof / "000005/checkpoint",
        PROOF.signed(PROOF.texts()[4].replace("noria/d80357f2761a", "noria/d80357f2761b")),
    )
    assert checked(*KEYS, proof).code == REFUSED


def test_an_end_that_is_cut_off_shows_beside_a_copy(tmp_path: Path) -> None:
    proof = PROOF.write(tmp_path)
    copy = write(tmp_path / "published", PROOF.signed(PROOF.texts()[4]))
    shutil.rmtree(proof / "000005")
    assert checked(*KEYS, proof).code == HOLDS
    found = checked(*KEYS, proof, copy)
    assert found.code == REFUSED, found.said


def test_another_text_under_the_same_number_shows_beside_a_copy(tmp_path: Path) -> None:
    proof = PROOF.write(tmp_path)
    other = PROOF.texts()[4].replace("noria 0.1.0", "noria 0.1.1")
    assert checked(*KEYS, proof, write(tmp_path / "b", PROOF.signed(other))).code == REFUSED


# -- proofs of one object --------------------------------------------------------------------------

MANY = [HandReceipt(key=f"k{n:02}", size=n, level="ingested") for n in range(13)]
OBJECTS = HandProof(passes=[HandPass(receipts=MANY)])


def test_every_receipt_and_every_gap_can_be_proven(tmp_path: Path) -> None:
    proof = OBJECTS.write(tmp_path)
    for receipt in MANY:
        name = receipt.key
        text = OBJECTS.inclusion(1, name)
        path = write(tmp_path / "it.tlog-proof", text)
        assert checked(*KEYS, path, "--name", name).code == HOLDS
        assert checked(*KEYS, path, "--name", name + "0").code == REFUSED
        gap = write(tmp_path / "gap.absence-proof", OBJECTS.absence(1, name + "5"))
        assert checked(*KEYS, proof, gap, "--name", name + "5").code == HOLDS
    below = write(tmp_path / "below.absence-proof", OBJECTS.absence(1, "a"))
    assert checked(*KEYS, proof, below).code == HOLDS


def with_name(text: str, name: str) -> str:
    """A proof of absence, of another name."""
    lines = text.split("\n")
    lines[1] = f"key {base64.b64encode(name.encode()).decode()}"
    return "\n".join(lines)


def without_leaf(text: str, which: int) -> str:
    head, first, second = text.split("leaf ")
    second, checkpoint = second.split("\n\n", 1)
    kept = first if which else f"{second}\n"
    return f"{head}leaf {kept}\n{checkpoint}"


GAP = OBJECTS.absence(1, "k055")
ONE = OBJECTS.inclusion(1, "k05")
OBJECT_PROOFS: dict[str, str] = {
    "another index": ONE.replace("index 5\n", "index 4\n"),
    "an index beyond": ONE.replace("index 5\n", "index 13\n"),
    "a negative index": ONE.replace("index 5\n", "index -5\n"),
    "an index with a zero in front": ONE.replace("index 5\n", "index 05\n"),
    "another leaf": ONE.replace(
        base64.b64encode(MANY[5].leaf()).decode(),
        base64.b64encode(replace(MANY[5], level="reread").leaf()).decode(),
    ),
    "a path too short": "\n".join(ONE.split("\n")[:3] + ONE.split("\n")[4:]),
    "a path too long": "\n".join(ONE.split("\n")[:4] + ONE.split("\n")[3:]),
    "two hashes exchanged": "\n".join(
        [*ONE.split("\n")[:3], ONE.split("\n")[4], ONE.split("\n")[3], *ONE.split("\n")[5:]]
    ),
    "a node as a leaf": ONE.replace("index 5\n", "index 2\n"),
    "without its leaf": "\n".join(ONE.split("\n")[:1] + ONE.split("\n")[2:]),
    "another kind": ONE.replace("tlog-proof@v1", "tlog-proof@v2"),
    "an end that is cut off": ONE[: ONE.index("— ")],
    "a checkpoint that is cut off": ONE[:-30],
    "a checkpoint of another tree": ONE.split("\n\n")[0] + "\n\n" + PROOF.signed(PROOF.texts()[0]),
    "carriage returns": ONE.replace("\n", "\r\n"),
    "a line behind": ONE + "\n",
    "absence of what is there": with_name(GAP, "k05"),
    "absence of the one above": with_name(GAP, "k06"),
    "absence of what is elsewhere": with_name(GAP, "k08"),
    "absence below both": with_name(GAP, "a"),
    "absence above both": with_name(GAP, "z"),
    "absence by the lower one": without_leaf(GAP, 1),
    "absence by the upper one": without_leaf(GAP, 0),
    "absence by nothing": GAP.split("leaf ")[0] + "\n" + GAP.split("\n\n", 1)[1],
    "absence by those further away": "noria.absence/v1\nkey azA1NQ==\n"
    + OBJECTS.inclusion(1, "k04").split("\n", 1)[1].split("\n\n")[0].replace("extra", "leaf")
    + "\n"
    + OBJECTS.inclusion(1, "k06").split("\n", 1)[1].replace("extra", "leaf"),
}


@pytest.mark.parametrize("name", OBJECT_PROOFS)
def test_a_proof_of_an_object_that_is_wrong(tmp_path: Path, name: str) -> None:
    text = OBJECT_PROOFS[name]
    assert text not in (ONE, GAP)
    path = write(tmp_path / "it", text)
    assert checked(*KEYS, path).code == REFUSED
    assert checked(*KEYS, OBJECTS.write(tmp_path), path).code == REFUSED


# -- signatures, beside an independent implementation ----------------------------------------------


def says_cryptography(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@settings(max_examples=60)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300), data=st.data())
def test_signatures(seed: bytes, message: bytes, data: st.DataObject) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert check.is_signed(public, message, signature)
    bit = data.draw(st.integers(0, 511))
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not check.is_signed(public, message, bytes(flipped))
    assert not check.is_signed(public, message + b"\0", signature)
    assert not check.is_signed(public, message, signature[:-1])
    assert not check.is_signed(public, message, signature + b"\0")


VECTORS = [  # RFC 8032, section 7.1
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_vectors_of_the_standard(public: str, message: str, signature: str) -> None:
    given_bytes = [bytes.fromhex(each) for each in (public, message, signature)]
    assert check.is_signed(given_bytes[0], given_bytes[1], given_bytes[2])
    r, s = given_bytes[2][:32], int.from_bytes(given_bytes[2][32:], "little")
    for other in (s + check.ORDER, s + 2 * check.ORDER):
        again = r + other.to_bytes(32, "little")
        assert not check.is_signed(given_bytes[0], given_bytes[1], again), "S is not reduced"
        assert not says_cryptography(given_bytes[0], given_bytes[1], again)


@pytest.mark.parametrize(
    "encoded",
    [
        (check.P + 1).to_bytes(32, "little"),
        (2**255 - 1).to_bytes(32, "little"),
        (1 | 1 << 255).to_bytes(32, "little"),
        (2).to_bytes(32, "little"),
        b"\1" * 31,
    ],
    ids=["y is p + 1", "y is 2^255 - 1", "x is -0", "no point", "too short"],
)
def test_points_that_are_none(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="no point"):
        check.point(encoded)


@pytest.mark.parametrize(
    "vkey",
    [
        MOVER.vkey.replace("b882f987", "b882f988"),
        MOVER.vkey.replace("mover", "movr"),
        MOVER.vkey.replace("+AQ", "+Ag"),
        MOVER.vkey + "=",
        MOVER.vkey.replace("+", " "),
        "",
    ],
)
def test_a_key_that_is_none(tmp_path: Path, vkey: str) -> None:
    assert checked("--key", vkey, PROOF.write(tmp_path)).code == REFUSED


@pytest.mark.parametrize(("words", "code"), [([], 2), (["--kye", "x"], 2), (["--help"], 0)])
def test_how_it_is_called(words: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        checked(*words)
    assert ended.value.code == code


# -- the file itself -------------------------------------------------------------------------------

IMPORTS = {
    "__future__", "argparse", "base64", "collections", "gzip", "hashlib", "json", "os", "pathlib",
    "re", "struct", "sys", "time", "typing", "urllib",
}  # fmt: skip
NEWER = {
    "removeprefix_": (3, 9),
    "batched": (3, 12),
    "pairwise": (3, 10),
    "bit_count": (3, 10),
    "file_digest": (3, 11),
    "UTC": (3, 11),
    "Self": (3, 11),
    "walk": (3, 12),
    "slots": (3, 10),
    "kw_only": (3, 10),
    "strict": (3, 10),
    "zoneinfo": (3, 9),
}
"""Names of the standard library that Python 3.9 does not have, or has no arguments of."""


def test_it_is_one_file_that_can_be_read_in_one_sitting() -> None:
    text = CHECKER.read_text()
    assert len(text.splitlines()) <= 300
    assert max(len(line) for line in text.splitlines()) <= 100


def test_it_imports_the_standard_library_alone_and_opens_no_connection() -> None:
    tree = ast.parse(CHECKER.read_text())
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names == IMPORTS


@pytest.mark.parametrize("name", ["check.py", "sample.py"])
def test_it_is_python_3_9(name: str) -> None:
    tree = ast.parse((CHECKER.parent / name).read_text(), feature_version=(3, 9))
    used = {
        word
        for node in ast.walk(tree)
        for word in (
            getattr(node, "attr", None),
            getattr(node, "id", None),
            node.arg if isinstance(node, ast.keyword) else None,
        )
    }
    assert not used & NEWER.keys()
    assert not [node for node in ast.walk(tree) if type(node).__name__ in ("Match", "TryStar")]
    assert any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    )
