"""A whole migration over a distance: passes, cutover, roll-back and verification over TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from noria.benchmarks.null.certificates import make_certificate
from tests.support.far_store import FarStore, far_store, longest_chain, trips
from tests.support.living import PlainBucket, PlainContainer
from tests.support.moves import Move, plain

PARIS_TO_NEW_YORK_SECONDS = 0.04
"""One way: a round trip takes 80 ms."""
LONG_SECONDS = 0.2
"""One way: what this machine does in between is short beside it."""
SWITCH = ("--quiet-for", "1s", "--approve-as", "Ann", "--switch-command", "true")
MOST_TRIPS = {"nothing": 9, "one object": 17, "verify": 5, "cutover": 33}
"""In series, of a pass that moves nothing, one that moves an object, and so on."""


@dataclass(slots=True)
class FarMigration:
    """A migration whose ends are both far away, and its ends as their users see them."""

    move: Move
    source: FarStore
    target: FarStore
    lake: PlainContainer
    copy: PlainBucket
    job_file: Path

    def trips(self, *arguments: str | Path) -> int:
        """Run a command; how many round trips it made in series."""
        for store in (self.source, self.target):
            store.turns.clear()
        self.move.noria(*arguments)
        turns = [*self.source.log(), *self.target.log()]
        return trips(longest_chain(sorted(turns, key=lambda turn: turn.start)))


@contextmanager
def far_migration(
    make_move: Callable[..., Move], folder: Path, one_way_seconds: float
) -> Iterator[FarMigration]:
    """Requests are signed by the keys of both ends, and go through TLS."""
    move = make_move([plain(f"folder{n % 3}/k{n:02}", 1000) for n in range(12)])
    azurite, certificate = move.azurite, make_certificate(folder)
    near = {"source": azurite.process.endpoint, "target": move.seaweedfs.endpoint}
    with ExitStack() as stack:
        source, target = (
            stack.enter_context(
                far_store(endpoint, certificate, one_way_seconds=one_way_seconds, name=name)
            )
            for name, endpoint in near.items()
        )
        move.environment["AZURE_STORAGE_CONNECTION_STRING"] = azurite.connection_string.replace(
            near["source"], source.endpoint
        )
        trusted = {"ca_bundle": str(certificate.ca_bundle)}
        end = {"endpoint": target.endpoint, "region": "us-east-1", **trusted}
        client = stack.enter_context(azurite.client())
        copy = PlainBucket(move.seaweedfs.client(), move.bucket)
        stack.callback(copy.client.close)
        yield FarMigration(
            move=move,
            source=source,
            target=target,
            lake=PlainContainer(client.get_container_client(move.container)),
            copy=copy,
            job_file=move.job_file(source=trusted, target=end),
        )


@pytest.mark.slow
def test_there_and_back(make_move: Callable[..., Move], tmp_path: Path) -> None:
    with far_migration(make_move, tmp_path, PARIS_TO_NEW_YORK_SECONDS) as far:
        lake, copy, noria, job = far.lake, far.copy, far.move.noria, far.move.job
        noria("run", far.job_file)
        lake.put("folder0/new", b"new")
        lake.put("folder1/k01", b"changed")
        lake.delete("folder2/k02")
        later = noria("sync", job, "--deletions", "mirror", "--yes")
        assert later["outcomes"] == {"TRANSFERRED": 2, "DELETED": 1}
        assert lake.objects() == copy.objects()
        cut = noria("cutover", job, "--verify", *SWITCH)
        assert (cut["stopped"], cut["state"]) == (None, "grace")
        copy.put("folder0/k00", b"in use")
        copy.put("in use", b"in use")
        assert noria("rollback", job)["ended"] is True
        assert lake.objects() == copy.objects()
        read_back = noria("verify", job)
        assert (read_back["reread"], read_back["damaged"]) == (len(copy.objects()), 0)
        assert read_back["unread"] == 0


@pytest.mark.slow
def test_few_round_trips_in_series(make_move: Callable[..., Move], tmp_path: Path) -> None:
    with far_migration(make_move, tmp_path, LONG_SECONDS) as far:
        job = far.move.job
        far.move.noria("run", far.job_file)
        found = {"nothing": far.trips("sync", job)}
        far.lake.put("folder0/new", b"new")
        found["one object"] = far.trips("sync", job)
        found["verify"] = far.trips("verify", job)
        found["cutover"] = far.trips("cutover", job, *SWITCH)
        assert all(found[name] <= most for name, most in MOST_TRIPS.items()), found
