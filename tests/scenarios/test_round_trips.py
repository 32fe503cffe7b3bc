"""Round trips in series: over a distance a command waits for few answers one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from noria.benchmarks.null.certificates import ServerCertificate, make_certificate
from tests.support.far_store import FarStore, Turn, far_store, longest_chain, trips
from tests.support.moves import Move, plain

ONE_WAY_SECONDS = 0.2
"""So long that what this machine does in between is short beside it, also while it is busy."""
TO_THE_FIRST_BYTE = 14
WITH_A_KNOWN_TARGET = 8
AFTER_THE_LAST_BYTE = 4


@dataclass
class Journey:
    """Two commands of one move, and what was said to both stores meanwhile."""

    move: Move
    source: FarStore
    target: FarStore
    certificate: ServerCertificate

    def run(self, name: str) -> list[Turn]:
        """Run a new job of this move; return all turns in the order in which they began."""
        self.source.turns.clear()
        self.target.turns.clear()
        self.move.job = self.move.job.with_name(name)
        trusted = {"ca_bundle": str(self.certificate.ca_bundle)}
        job_file = self.move.job_file(
            source=trusted,
            target={"endpoint": self.target.endpoint, "region": "us-east-1", **trusted},
        )
        done = self.move.noria("run", job_file)
        assert done["reconciled"] is True
        return sorted([*self.source.log(), *self.target.log()], key=lambda turn: turn.start)


@pytest.fixture
def certificate(tmp_path: Path) -> ServerCertificate:
    return make_certificate(tmp_path)


@pytest.fixture
def journey(make_move: Callable[..., Move], certificate: ServerCertificate) -> Iterator[Journey]:
    with far_away(make_move, certificate) as journey:
        yield journey


@contextmanager
def far_away(make_move: Callable[..., Move], certificate: ServerCertificate) -> Iterator[Journey]:
    move = make_move([plain(f"folder{n % 3}/k{n:02}", 1000) for n in range(12)])
    azurite = move.azurite
    with ExitStack() as stack:
        source, target = (
            stack.enter_context(
                far_store(endpoint, certificate, one_way_seconds=ONE_WAY_SECONDS, name=name)
            )
            for name, endpoint in (
                ("source", azurite.process.endpoint),
                ("target", move.seaweedfs.endpoint),
            )
        )
        move.environment["AZURE_STORAGE_CONNECTION_STRING"] = azurite.connection_string.replace(
            azurite.process.endpoint, source.endpoint
        )
        yield Journey(move, source, target, certificate)


def first_byte(turns: list[Turn]) -> Turn:
    """The first answer that is an object's content."""
    reads = [turn for turn in turns if turn.store == "source" and turn.what.startswith("GET ")]
    bodies = [turn for turn in reads if "comp=list" not in turn.what]
    return min(bodies, key=lambda turn: turn.answered or 0.0)


def last_byte(turns: list[Turn]) -> Turn:
    writes = [turn for turn in turns if turn.store == "target" and turn.what.startswith("PUT ")]
    objects = [turn for turn in writes if not is_canary(turn)]
    return max(objects, key=lambda turn: turn.end or 0.0)


def is_canary(turn: Turn) -> bool:
    return turn.what.startswith("PUT ") and ".noria-probe" in turn.what


def described(chain: list[Turn]) -> str:
    return "\n".join(
        f"{turn.start:8.2f} to {turn.end or 0.0:8.2f} {turn.store} {turn.what[:90]}"
        for turn in chain
    )


def test_few_round_trips_in_series(journey: Journey) -> None:
    """Before the first byte and after the last, and before the first if the target is known."""
    turns = journey.run("first")
    assert any(map(is_canary, turns))
    chain = longest_chain(turns, to=first_byte(turns))
    assert trips(chain) <= TO_THE_FIRST_BYTE, described(chain)
    end = last_byte(turns).end or 0.0
    chain = longest_chain([turn for turn in turns if turn.start >= end])
    assert trips(chain) <= AFTER_THE_LAST_BYTE, described(chain)
    journey.move.expect_all_arrived()

    client = journey.move.seaweedfs.client()
    for spec in journey.move.specs:
        client.delete_object(Bucket=journey.move.bucket, Key=spec.key)
    client.close()
    turns = journey.run("second")
    assert not any(map(is_canary, turns)), "probed an hour ago at most"
    chain = longest_chain(turns, to=first_byte(turns))
    assert trips(chain) <= WITH_A_KNOWN_TARGET, described(chain)
    journey.move.expect_all_arrived()
