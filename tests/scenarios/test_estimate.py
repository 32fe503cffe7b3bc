"""An estimate, and the requests that the run then sends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from noria.benchmarks.servers.dataset import ObjectSpec
from noria.engine.config.jobfile import read_job_file
from noria.engine.planning import probe_token
from noria.engine.status import load_status
from noria.manifests.counters import Histogram
from noria.manifests.job.directory import JobDirectory
from tests.support.moves import Move


def sent(job: Path, store: str) -> dict[str, int]:
    """Requests that the workers of the last run sent and that succeeded, by kind."""
    status = load_status(JobDirectory.open(job))
    assert status is not None
    return {
        labels[2]: int(sum(counts[:-1]))
        for labels, counts in status.metrics.histograms.items()
        if labels[:2] == (Histogram.REQUEST_SECONDS, store)
    }


def place_of_the_probe(job_file: Path) -> str:
    """Where `noria estimate --probe` writes for this job."""
    token = probe_token(Path("/estimate"), read_job_file(job_file).target)
    return f".noria-probe-{token}/estimate/"


@pytest.mark.parametrize("standing", [False, True])
def test_requests_are_those_of_the_run(make_move: Callable[..., Move], standing: bool) -> None:
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
        uploads = ("mine", place_of_the_probe(job_file) + "left")
        for key in uploads:
            move.seaweedfs.client().create_multipart_upload(Bucket=move.bucket, Key=key)
        measured = move.noria("estimate", job_file, "--probe", "--workers", "1")
        assert measured["constants"]["measured"].startswith("32 objects, ")
        left = move.seaweedfs.client().list_objects_v2(Bucket=move.bucket)["Contents"]
        assert [each["Key"] for each in left] == ["other"]
        still = move.seaweedfs.client().list_multipart_uploads(Bucket=move.bucket)["Uploads"]
        assert [each["Key"] for each in still] == ["mine"], "what a killed probe left is aborted"
    move.noria("run", move.job)
    for store in ("source", "target"):
        expected = {k: n for k, n in found["requests"][store].items() if k not in ("list", "tags")}
        counted = {k: n for k, n in sent(move.job, store).items() if k not in ("list", "tags")}
        assert counted == expected, store
    assert found["objects"] == len(specs)
    assert found["bytes"] == sum(spec.size for spec in specs)
