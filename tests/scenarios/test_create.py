"""Targets that are missing: folders are made, buckets and containers with --create."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from noria.benchmarks.servers import Azurite
from noria.engine.config.jobfile import EndConfig
from noria.engine.made_targets import make_missing
from tests.support.moves import Move, plain

RACING = 4


@pytest.fixture
def missing(make_move: Callable[..., Move]) -> Iterator[Move]:
    """A move to a bucket that is not there."""
    move = make_move([plain("a", 10), plain("b/c", 1000)])
    move = replace(move, bucket=f"made-{uuid.uuid4().hex}")
    yield move
    client = move.seaweedfs.client()
    with contextlib.suppress(client.exceptions.ClientError):
        client.delete_bucket(Bucket=move.bucket)
    client.close()


def test_a_bucket_is_made_if_that_is_asked_for(missing: Move) -> None:
    refused = missing.copy(exit_code=2)
    assert "--create" in refused["error"]
    assert not missing.job.exists()
    done = missing.copy("--create", "--workers", "1")
    assert done["reconciled"] is True
    missing.expect_all_arrived()
    again = missing.copy("--create", "--workers", "1")
    assert again["outcomes"] == done["outcomes"], "how the bucket came to be is not part of the job"


def test_a_container_is_made_private_by_several_at_once(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in azurite.env().items():
        monkeypatch.setenv(name, value)
    container = f"made-{uuid.uuid4().hex}"
    end = EndConfig(url=f"az://{azurite.account}/{container}/data", create=True)
    said: list[str] = []
    with ThreadPoolExecutor(RACING) as threads:
        list(threads.map(lambda _: make_missing(end, said.append), range(RACING)))
    with azurite.client() as client:
        properties = client.get_container_client(container).get_container_properties()
        client.delete_container(container)
    assert properties.public_access is None
    assert said == [f"made {end.location}, which was missing"]


def test_a_source_that_is_wrong_makes_nothing(missing: Move) -> None:
    gone = replace(missing, container="no-such-container")
    gone.copy("--create", exit_code=2)
    client = missing.seaweedfs.client()
    assert missing.bucket not in {each["Name"] for each in client.list_buckets()["Buckets"]}
    client.close()


def test_the_folders_of_a_target_are_made(missing: Move, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "below"
    run = ("--workers", "1", "--metrics-address", "off")
    done = missing.noria("copy", missing.source, str(folder), "--job", missing.job, *run)
    assert done["reconciled"] is True
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {spec.key for spec in missing.specs}


def test_a_job_file_may_ask_for_it(missing: Move) -> None:
    path = missing.job_file(target={"create": True})
    planned = missing.noria("plan", path)
    assert planned["objects"] == len(missing.specs), json.dumps(planned)
