"""A whole migration over a distance: passes, damage, cutover and roll-back, over TLS, with keys."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from noria.benchmarks.null.certificates import make_certificate
from tests.support.far_store import far_store
from tests.support.living import PlainBucket, PlainContainer
from tests.support.moves import Move, plain

ONE_WAY_SECONDS = 0.04
"""A round trip takes 80 ms, as between Paris and New York."""


@pytest.mark.slow
def test_passes_cutover_and_way_back_over_tls_and_80_ms(
    make_move: Callable[..., Move], tmp_path: Path
) -> None:
    move = make_move([plain(f"folder{n % 3}/k{n:02}", 1000) for n in range(24)])
    azurite, certificate = move.azurite, make_certificate(tmp_path)
    with ExitStack() as stack:
        near = {"source": azurite.process.endpoint, "target": move.seaweedfs.endpoint}
        source, target = (
            stack.enter_context(
                far_store(endpoint, certificate, one_way_seconds=ONE_WAY_SECONDS, name=name)
            )
            for name, endpoint in near.items()
        )
        move.environment["AZURE_STORAGE_CONNECTION_STRING"] = azurite.connection_string.replace(
            near["source"], source.endpoint
        )
        trusted = {"ca_bundle": str(certificate.ca_bundle)}
        end = {"endpoint": target.endpoint, "region": "us-east-1", **trusted}
        client = stack.enter_context(azurite.client())
        lake = PlainContainer(client.get_container_client(move.container))
        copy = PlainBucket(move.seaweedfs.client(), move.bucket)
        stack.callback(copy.client.close)

        move.noria("run", move.job_file(source=trusted, target=end))
        lake.put("folder0/new", b"new")
        lake.put("folder1/k01", b"changed")
        lake.delete("folder2/k02")
        again = move.noria("sync", move.job, "--deletions", "mirror", "--yes")
        assert again["outcomes"] == {"TRANSFERRED": 2, "DELETED": 1}
        assert lake.objects() == copy.objects()
        cut = move.noria(
            *("cutover", move.job, "--quiet-for", "1s", "--verify"),
            *("--approve-as", "Ann", "--switch-command", "true"),
        )
        assert (cut["stopped"], cut["state"]) == (None, "grace")
        copy.put("folder0/k00", b"in use")
        copy.put("in use", b"in use")
        back = move.noria("rollback", move.job)
        assert back["ended"] is True
        assert lake.objects() == copy.objects()
        read_back = move.noria("verify", move.job)
        assert (read_back["reread"], read_back["damaged"]) == (len(copy.objects()), 0)
        assert read_back["unread"] == 0
        for store in (source, target):
            assert store.turns, "all of it went over the road"
