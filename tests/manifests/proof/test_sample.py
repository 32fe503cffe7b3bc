"""Objects that are drawn by a hash are compared with their receipts."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from noria.workers.digest import crc64nvme
from tests.support.checker import CHECKER, HOLDS, NOT_CHECKED, REFUSED
from tests.support.proofs_by_hand import MOVER, HandPass, HandProof, HandReceipt

HELD = {f"d/{n:02}": b"x" * n for n in range(20)} | {"$(touch boo) 'é": b"123456789"}
"""The CRC64NVME of `123456789` is the check value of its catalogue: ae8b14860a799888."""


def receipt(key: str, data: bytes, **fields: str) -> HandReceipt:
    plain = HandReceipt(key=key, size=len(data), crc64nvme=crc64nvme(data), level="ingested")
    return replace(plain, **fields)  # type: ignore[arg-type]  # all are texts


FIRST = [
    receipt(key, b"older" if key == "d/03" else data) for key, data in sorted(HELD.items())
] + [
    receipt("gone", b"deleted later"),
    receipt("skipped", b"", outcome="SKIPPED", cause="folder_stub"),
]
SECOND = [receipt("d/03", HELD["d/03"]), receipt("gone", b"", outcome="DELETED")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """A proof, a folder that stands for a store, and how to draw from it."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def ran(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-E", "-S", "sample.py", *arguments, "proof"]
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=self.folder)

    def drawn(self, count: int, **ends: str) -> subprocess.CompletedProcess[str]:
        fetch = [word for end, command in ends.items() for word in (f"--{end}", command)]
        return self.ran("--key", MOVER.vkey, "--count", str(count), "--seed", "word", *fetch)

    @property
    def command(self) -> str:
        return f"cat {shlex.quote(str(self.store))}/{{key}}"


@pytest.fixture
def sampling(tmp_path: Path) -> Sampling:
    passes = [HandPass(receipts=FIRST), HandPass(receipts=SECOND, number=2)]
    HandProof(passes=passes).write(tmp_path)
    for key, data in HELD.items():
        path = tmp_path / "store" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name in ("check.py", "sample.py"):
        shutil.copy(CHECKER.with_name(name), tmp_path / name)
    return Sampling(folder=tmp_path)


def test_all_objects_are_as_their_receipts_say(sampling: Sampling) -> None:
    ran = sampling.drawn(50, target=sampling.command, source=sampling.command)
    assert ran.returncode == HOLDS, ran.stdout + ran.stderr
    assert ran.stdout.count(": same\n") == 2 * len(HELD)
    assert "gone" not in ran.stdout, "a later pass has deleted it"
    assert not (sampling.folder / "boo").exists(), "a name is not a command"


def test_a_changed_object_is_found(sampling: Sampling) -> None:
    (sampling.store / "d/07").write_bytes(b"x" * 6 + b"y")
    (sampling.store / "d/08").unlink()
    ran = sampling.drawn(50, target=sampling.command)
    assert ran.returncode == REFUSED
    assert "target 'd/07': DIFFERS: 7 bytes" in ran.stdout
    assert "target 'd/08': NOT READ" in ran.stdout
    assert "2 of them went wrong" in ran.stdout


def test_what_is_drawn_follows_from_the_checkpoint_and_the_seed(sampling: Sampling) -> None:
    def names(*seed: str) -> list[str]:
        ran = sampling.ran("--key", MOVER.vkey, "--count", "5", *seed, "--target", sampling.command)
        return [line for line in ran.stdout.splitlines() if line.startswith("target ")]

    assert len(names("--seed", "a")) == 5
    assert names("--seed", "a") == names("--seed", "a") != names("--seed", "b") != names()


def test_without_a_checksum_the_size_alone_is_compared(sampling: Sampling) -> None:
    receipts = [HandReceipt(key="d/07", size=7, level="counted")]
    shutil.rmtree(sampling.folder / "proof")
    HandProof(passes=[HandPass(receipts=receipts)]).write(sampling.folder)
    ran = sampling.drawn(5, target=sampling.command)
    assert (ran.returncode, "target 'd/07': same size\n" in ran.stdout) == (NOT_CHECKED, True)


def test_a_proof_that_does_not_hold_is_not_drawn_from(sampling: Sampling) -> None:
    path = sampling.folder / "proof/000002/checkpoint"
    path.write_bytes(path.read_bytes().replace(b"/000002\n2\n", b"/000002\n3\n"))
    ran = sampling.drawn(5, target=sampling.command)
    assert (ran.returncode, ran.stdout[:8]) == (REFUSED, "REFUSED:")


def test_without_leaves_there_is_nothing_to_draw_from(sampling: Sampling) -> None:
    for leaves in (sampling.folder / "proof").glob("trees/*/leaves"):
        shutil.rmtree(leaves)
    ran = sampling.drawn(5, target=sampling.command)
    assert ran.returncode == NOT_CHECKED
    assert "NOT CHECKED: any object" in ran.stdout


def test_it_asks_for_a_store(sampling: Sampling) -> None:
    ran = sampling.ran("--key", MOVER.vkey)
    assert ran.returncode == 2
    assert "give --target or --source" in ran.stderr
