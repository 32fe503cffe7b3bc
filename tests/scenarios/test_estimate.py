"""An estimate, and the requests that the run then sends."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.benchmarks.servers.dataset import ObjectSpec
from noria.engine.config.reading import read_job_file
from noria.engine.config.stores import open_end
from noria.engine.estimate.probe import LEFT_SECONDS, remove_left
from noria.engine.status import load_status
from noria.manifests.counters import Histogram
from noria.manifests.job.directory import JobDirectory
from tests.support.moves import Move

AT_WORK = ".noria-probe-0123456789ab/estimate/"
"""Where an estimate writes."""


def sent(job: Path, store: str) -> dict[str, int]:
    """Requests that the workers of the last run sent and that succeeded, by kind."""
    status = load_status(JobDirectory.open(job))
    assert status is not None
    return {
        labels[2]: int(sum(counts[:-1]))
        for labels, counts in status.metrics.histograms.items()
        if labels[:2] == (Histogram.REQUEST_SECONDS, store)
    }


def objects_and_uploads(move: Move) -> tuple[list[str], list[str]]:
    client = move.seaweedfs.client()
    objects = client.list_objects_v2(Bucket=move.bucket)["Contents"]
    uploads = client.list_multipart_uploads(Bucket=move.bucket)["Uploads"]
    return sorted(each["Key"] for each in objects), sorted(each["Key"] for each in uploads)


@pytest.mark.parametrize("standing", [False, True])
def test_requests_are_those_of_the_run(
    make_move: Callable[..., Move], standing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = "application/octet-stream"
    specs = [ObjectSpec(key=f"d/{n}", size=1000 * n, content_type=plain) for n in range(30)]
    specs += [
        ObjectSpec(key="large", size=20_000_000, content_type=plain),
        ObjectSpec(key="huge", size=40_000_000, content_type=plain),
    ]
    move = make_move(specs)
    if standing:
        move.seaweedfs.client().put_object(Bucket=move.bucket, Key="other", Body=b"1")
    cut = {"part_bytes": 16 * 2**20, "segment_bytes": 24 * 2**20}
    run = {"workers": 1, "range_bytes": 8 * 2**20}
    job_file = move.job_file(plan=cut, run=run)
    move.noria("plan", job_file)
    found = move.noria("estimate", job_file)
    if standing:
        client = move.seaweedfs.client()
        client.create_multipart_upload(Bucket=move.bucket, Key="mine")
        client.create_multipart_upload(Bucket=move.bucket, Key=AT_WORK + "a")
        client.put_object(Bucket=move.bucket, Key=AT_WORK + "b", Body=b"1")
        measured = move.noria("estimate", job_file, "--probe", "--workers", "1")
        assert measured["constants"]["measured"].startswith("32 objects, ")
        objects, uploads = objects_and_uploads(move)
        assert objects == [AT_WORK + "b", "other"], "of another estimate, which may be at work"
        assert uploads == [AT_WORK + "a", "mine"]
        for name, value in move.environment.items():
            monkeypatch.setenv(name, value)
        end = read_job_file(job_file).target
        opened = open_end(end)
        remove_left(opened, end, "", time.time() + 0.9 * LEFT_SECONDS)
        assert objects_and_uploads(move) == (objects, uploads)
        remove_left(opened, end, "", time.time() + 1.1 * LEFT_SECONDS)
        opened.close()
        assert objects_and_uploads(move) == (["other"], ["mine"])
    move.noria("run", move.job)
    for store in ("source", "target"):
        expected = {k: n for k, n in found["requests"][store].items() if k not in ("list", "tags")}
        counted = {k: n for k, n in sent(move.job, store).items() if k not in ("list", "tags")}
        assert counted == expected, store
    assert found["objects"] == len(specs)
    assert found["bytes"] == sum(spec.size for spec in specs)
