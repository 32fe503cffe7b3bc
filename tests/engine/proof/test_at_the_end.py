"""A job that names a key is signed when it ends, and its report says so."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import noria as api
from noria.engine.config.reading import job_config
from noria.manifests.errors import ConfigurationError
from noria.manifests.proof.folder import ProofFolder
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    for end in ("lake", "copy"):
        (tmp_path / end).mkdir()
    (tmp_path / "lake" / "a").write_text("first")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(command, check=True)
    file = tmp_path / "move.toml"
    file.write_text(
        'source = "./lake"\ntarget = "./copy"\n[run]\nmetrics_address = "off"\n'
        '[proof]\nsigning_key = "key"\nname = "example.eu/mover"\n'
    )
    return file


def signers(root: Path) -> list[list[str]]:
    return [
        [line.name for line in each.note.signatures] for each in ProofFolder(root).checkpoints()
    ]


def test_a_run_is_signed_when_it_ends_and_each_pass_after_it(
    job_file: Path, tmp_path: Path
) -> None:
    code, out, err = noria("run", job_file, "--json")
    assert code == 0, err
    proof = json.loads(out)["proof"]
    assert (proof["checkpoint"], proof["size"]) == (1, 1)
    root = tmp_path / "move"
    assert signers(root) == [["example.eu/mover"]]
    (tmp_path / "lake" / "b").write_text("second")
    code, out, _ = noria("sync", root, "-q")
    assert code == 0
    assert (
        f"signed: checkpoint 2, root {ProofFolder(root).checkpoints()[1].checkpoint.root.hex()}"
        in out
    )
    # The record of the pass's end is among what is signed.
    assert ProofFolder(root).checkpoints()[1].checkpoint.history[0] == 3
    code, said, _ = noria("prove", root, "--check", "--trust", proof["key"])
    assert code == 0
    assert "pass 2: 1 receipt," in said


def test_from_python_too(job_file: Path, tmp_path: Path) -> None:
    api.plan(api.read_job_file(job_file), tmp_path / "move")
    ended = api.run(tmp_path / "move")
    assert ended.proof is not None
    assert ended.proof["checkpoint"] == 1
    assert signers(tmp_path / "move") == [["example.eu/mover"]]


def test_a_key_that_cannot_be_used_is_refused_before_anything_moves(
    job_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").chmod(0o644)
    code, _, err = noria("run", job_file)
    assert (code, "chmod 600" in err) == (2, True)
    assert list((tmp_path / "copy").iterdir()) == []


def test_what_cannot_be_signed_in_the_end_has_moved_all_the_same(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object) -> None:
        raise ConfigurationError("the token was taken out")

    monkeypatch.setattr("noria.engine.proof.stamping.sign", refused)
    code, out, err = noria("run", job_file, "-q")
    assert code == 0, err
    assert "NOT signed: the token was taken out" in out
    assert f"noria sign {tmp_path / 'move'} --signing-key FILE" in out
    assert signers(tmp_path / "move") == []


def test_what_does_not_reconcile_is_not_signed(job_file: Path, tmp_path: Path) -> None:
    code, _, _ = noria("run", job_file)
    assert code == 0
    root = tmp_path / "move"
    (tmp_path / "copy" / "a").write_text("changed")
    code, out, _ = noria("run", root, "--json")
    assert (code, json.loads(out)["proof"]) == (1, None)


def test_without_a_key_nothing_is_signed_and_nothing_written(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    move.copy({"a": "first"})
    assert not (move.root / "proof").exists()


@pytest.mark.parametrize("name", ["a b", "a+b", ""])
def test_a_name_that_a_note_cannot_have_is_refused(name: str) -> None:
    values = {"source": {"url": "file:///a"}, "target": {"url": "file:///b"}}
    with pytest.raises(ConfigurationError, match=r"proof\.name"):
        job_config({**values, "proof": {"name": name}}, "a test")
