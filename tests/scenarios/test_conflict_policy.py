"""Later passes by command: what `run.conflicts` makes of others' objects, and workers that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from noria.benchmarks.servers import S3Server
from tests.support.moves import NORIA
from tests.support.processes import LOCAL_WORKER, descendants, wait_until

THEIRS = b"theirs"
OBJECTS = 600


def job_file(folder: Path, target: str, run: str = "") -> Path:
    """A job from folder/source; with all objects that later passes may have to delete."""
    (folder / "source").mkdir()
    path = folder / "job.toml"
    path.write_text(
        f'source = "./source"\ntarget = "{target}"\ndirectory = "job"\n'
        f'[run]\nmetrics_address = "off"\nworkers = 2\n{run}\n'
        '[sync]\ndeletions = "mirror"\ndeletions_max = 1.0\n'
    )
    return path


def noria(*words: str | Path, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and what --json prints."""
    ended = subprocess.run(
        [NORIA, *words, "--json"],
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, document


def receipts(job: Path) -> dict[str, dict[str, Any]]:
    """Of the second pass, by key."""
    found = job.glob("passes/000002/results/**/*.parquet")
    return {row["key"]: row for path in found for row in pq.read_table(path).to_pylist()}


@pytest.mark.parametrize(
    ("run", "code", "outcomes", "stands"),
    [
        ("", 1, {"FAILED": 2, "TRANSFERRED": 1}, THEIRS),
        ('conflicts = "keep"', 0, {"SKIPPED": 2, "TRANSFERRED": 1}, THEIRS),
        (
            'conflicts = "replace"\nreplace_foreign = true',
            1,
            {"FAILED": 1, "TRANSFERRED": 2},
            b"changed",
        ),
    ],
    ids=["refuse", "keep", "replace"],
)
def test_what_becomes_of_others_objects(
    tmp_path: Path, run: str, code: int, outcomes: dict[str, int], stands: bytes
) -> None:
    """Nothing that others wrote is deleted, whatever the policy."""
    target = tmp_path / "target"
    target.mkdir()
    path, source = job_file(tmp_path, "./target", run), tmp_path / "source"
    for name in ("changed", "gone", "same", "touched"):
        (source / name).write_bytes(b"first")
    assert noria("run", path)[0] == 0
    (source / "changed").write_bytes(b"changed")
    (source / "touched").write_bytes(b"changed")
    (source / "gone").unlink()
    for name in ("gone", "touched"):
        (target / name).write_bytes(THEIRS)
    ended, document = noria("sync", tmp_path / "job")
    assert (ended, document["outcomes"]) == (code, outcomes)
    assert (target / "changed").read_bytes() == b"changed"
    assert (target / "touched").read_bytes() == stands
    assert (target / "gone").read_bytes() == THEIRS


def test_a_pass_whose_workers_are_killed_replaces_and_deletes_everything_once(
    tmp_path: Path, seaweedfs: S3Server, s3_bucket: str
) -> None:
    """What they wrote without telling is known as this pass's own."""
    path, source = job_file(tmp_path, f"s3://{s3_bucket}/to/"), tmp_path / "source"
    environment = seaweedfs.env()
    for number in range(OBJECTS):
        (source / f"{number:04}").write_bytes(b"first")
    assert noria("run", path, **environment)[0] == 0
    for number in range(OBJECTS):
        if number % 3:
            (source / f"{number:04}").write_bytes(b"changed")
        else:
            (source / f"{number:04}").unlink()
    words: list[str | Path] = [NORIA, "sync", tmp_path / "job", "--json", "--transfers", "4"]
    with subprocess.Popen(
        words,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        client = seaweedfs.client()

        def has_begun() -> bool:
            body = client.get_object(Bucket=s3_bucket, Key="to/0001")["Body"]
            return bool(body.read() == b"changed")

        wait_until(has_begun, "the first object is replaced")
        workers = [pid for pid, title in descendants(driver.pid) if LOCAL_WORKER in title]
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        out, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err
    assert json.loads(out)["outcomes"] == {"DELETED": OBJECTS // 3, "TRANSFERRED": OBJECTS * 2 // 3}
    found = receipts(tmp_path / "job")
    assert Counter(row["guard"] for row in found.values())["if_match"] > OBJECTS // 2
    assert {row["delta"] for row in found.values()} == {"size", "gone"}
    listed = client.get_paginator("list_objects_v2").paginate(Bucket=s3_bucket, Prefix="to/")
    names = [item["Key"] for page in listed for item in page.get("Contents", ())]
    assert names == [f"to/{number:04}" for number in range(OBJECTS) if number % 3]
    client.close()
