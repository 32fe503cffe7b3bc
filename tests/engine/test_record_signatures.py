"""Signed records: every step of a migration by whoever has a key, and no other place for one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from noria.engine.record_signatures import check_signatures, signer
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import RecordKind
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration, write


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path / "move")
    migration.copy({"a": "first", "b": "second"})
    return migration


def job_id(move: LocalMigration) -> str:
    return str(JobDirectory(move.root).job()["id"])


def test_every_step_is_signed_if_there_is_a_key(move: LocalMigration, key: Path) -> None:
    write(move.source, {"a": "changed"})
    move.sync(sign=signer(key))
    tools = move.tools(run_pass=lambda: move.sync(inventory="listing", sign=signer(key)))
    move.cutover(
        tools, freeze_command="true", approve_as="Ann", switch_command="true", signing_key=key
    )
    assert move.rollback(sign=signer(key)).ended
    public = signer(key)
    assert public is not None
    assert check_signatures(job_id(move), move.records) == {public(b"").key: len(move.records)}
    assert len(move.records) > 10


def test_records_without_a_key_are_said_to_be_so(move: LocalMigration, key: Path) -> None:
    move.sync()
    _, out, _ = noria("history", move.root)
    assert "no record is signed" in out
    unsigned = len(move.records)
    code, _, err = noria("sync", move.root, "-q", "--signing-key", key)
    assert (code, err) == (0, "")
    _, out, _ = noria("history", move.root)
    assert "2 records signed with key" in out
    assert f", {unsigned} not signed" in out
    assert out.count("; not signed") == unsigned


def test_the_key_may_come_from_the_environment(
    move: LocalMigration, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORIA_SIGNING_KEY", str(key))
    assert noria("sync", move.root, "-q")[0] == 0
    assert move.records[-1].key is not None


def test_a_key_that_is_none_stops_a_pass_before_it_is_planned(
    move: LocalMigration, tmp_path: Path
) -> None:
    (tmp_path / "none").write_text("no key")
    code, _, err = noria("sync", move.root, "-q", "--signing-key", tmp_path / "none")
    assert (code, "is not an Ed25519 private key" in err) == (2, True)
    assert move.migration.last == 1


@pytest.mark.parametrize("changed", ["by", "at", "facts", "kind", "signature"])
def test_what_was_signed_cannot_be_another(move: LocalMigration, key: Path, changed: str) -> None:
    """The last record, which no other vouches for."""
    move.sync(sign=signer(key))
    path = move.root / f"history/{len(move.records):06d}.json"
    stated = json.loads(path.read_bytes())
    stated[changed] = {
        "by": "eve@here",
        "at": "2020-01-01T00:00:00Z",
        "facts": stated["facts"] | {"failed": 0, "bytes_moved": 7},
        "kind": "stopped",
        "signature": "0" * 128,
    }[changed]
    path.write_text(json.dumps(stated, sort_keys=True, separators=(",", ":")) + "\n")
    with pytest.raises(JobDirectoryError, match="signature of record"):
        check_signatures(job_id(move), move.records)
    code, _, err = noria("history", move.root)
    assert (code, "is not right" in err) == (3, True)


def test_a_record_of_another_migration_does_not_pass(
    move: LocalMigration, key: Path, tmp_path: Path
) -> None:
    sign = signer(key)
    other = JobDirectory.create(tmp_path / "other", {"id": "other"})
    record = history.append(other, RecordKind.PLANNED, {"pass": 1}, sign=sign)
    check_signatures("other", [record])
    with pytest.raises(JobDirectoryError, match="signature of record 1"):
        check_signatures(job_id(move), [record])


def test_a_switch_is_not_made_on_a_wrong_signature(move: LocalMigration, key: Path) -> None:
    move.cutover(freeze_command="true", signing_key=key)
    path = move.root / f"history/{len(move.records):06d}.json"
    stated = json.loads(path.read_bytes())
    stated["by"] = "eve@here"
    path.write_text(json.dumps(stated, sort_keys=True, separators=(",", ":")) + "\n")
    with pytest.raises(JobDirectoryError, match="is not right"):
        move.cutover(approve_as="Ann", switch_command="true")
    assert RecordKind.SWITCHED not in move.kinds
