"""What a running job says of what is sealed, and what a signature reads to know it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from urllib.request import urlopen

import pytest

from noria.engine.metrics_server import MetricsServer
from noria.engine.proof import sealed as sealed_module
from noria.engine.proof.sealed import SealedInRun, sealed
from noria.engine.proof.signing import SigningWishes, sign
from noria.engine.status import JobStatus, Phase
from noria.engine.terminal.console import Shows, shown
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import Seal, read_seals
from tests.support.local_migrations import LocalMigration, write

NOTHING = Shows(messages=False, progress=False, causes=False)


@pytest.fixture
def wishes(tmp_path: Path) -> SigningWishes:
    key = tmp_path / "mover"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return SigningWishes(key=key, name="example.eu/mover")


@pytest.fixture
def move(tmp_path: Path, wishes: SigningWishes) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy({"a": "1", "b": "2"})
    sign(migration.migration, wishes)
    return migration


def at(phase: Phase) -> JobStatus:
    return JobStatus(job="a", phase=phase, updated_seconds=time.time())


def test_what_is_sealed_is_not_as_it_stands_once_a_run_moves(move: LocalMigration) -> None:
    of_run = SealedInRun(move.root)
    found = of_run.of(at(Phase.VERIFYING))
    assert found == sealed(move.migration)
    assert found is not None
    assert (found.checkpoint, found.objects, found.is_current) == (1, 2, True)
    for phase in (Phase.MOVING, Phase.RECONCILING, Phase.FINISHED):
        later = of_run.of(at(phase))
        assert later is not None
        assert (later.objects, later.is_current) == (2, False)


def test_a_damaged_proof_takes_nothing_from_a_running_job(move: LocalMigration) -> None:
    (move.root / "proof/000001/checkpoint").write_text("nonsense\n")
    assert SealedInRun(move.root).of(at(Phase.MOVING)) is None


def test_a_running_job_serves_it(move: LocalMigration) -> None:
    with (
        closing(MetricsServer("127.0.0.1:0", name="move")) as server,
        shown(move.root, "127.0.0.1:0", NOTHING, server) as show,
    ):
        show(at(Phase.VERIFYING))
        with urlopen(f"{server.page}status.json", timeout=10) as response:
            document = json.load(response)
    assert document["sealed"] == asdict(sealed(move.migration))  # type: ignore[arg-type]  # is there


def test_a_signature_reads_the_seals_of_what_is_new_alone(
    move: LocalMigration, wishes: SigningWishes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noting(directory: JobDirectory) -> Iterator[Seal]:
        read.append(directory.root.name)
        return read_seals(directory)

    monkeypatch.setattr(sealed_module, "read_seals", noting)
    for number in range(2, 5):
        write(move.source, {f"{number}": "new"})
        move.sync()
        read.clear()
        sign(move.migration, wishes)
        assert set(read) == {f"{number:06d}"}
    read.clear()
    sign(move.migration, wishes)
    assert read == []
    found = sealed(move.migration)
    assert found is not None
    assert (found.checkpoint, found.objects, found.is_current) == (4, 5, True)
