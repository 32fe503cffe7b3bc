"""The seals of a running driver: compacted while it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.engine.sealing import Sealer
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import SEGMENT_SEALS, read_seals
from tests.manifests.job.test_segments import result, segments, single


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def test_a_driver_leaves_few_seals_in_files_of_their_own(directory: JobDirectory) -> None:
    with Sealer(directory, "sealed") as sealer:
        written = [sealer.seal(result(shard)) for shard in range(3 * SEGMENT_SEALS + 7)]
    assert list(read_seals(directory)) == written
    assert segments(directory)
    assert len(single(directory)) < 2 * SEGMENT_SEALS


def test_a_verification_has_segments_of_its_own(directory: JobDirectory) -> None:
    with Sealer(directory, "verified/0000000002") as sealer:
        written = [sealer.seal(result(shard)) for shard in range(SEGMENT_SEALS)]
    assert list(read_seals(directory, "verified/0000000002")) == written
    assert list(read_seals(directory)) == []


def test_seals_that_cannot_be_compacted_count_where_they_are(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put = JobDirectory.put

    def refuse_segments(self: JobDirectory, name: str, data: bytes) -> None:
        if "segments" in name:
            raise JobDirectoryError("the disk is full")
        put(self, name, data)

    monkeypatch.setattr(JobDirectory, "put", refuse_segments)
    with Sealer(directory, "sealed") as sealer:
        written = [sealer.seal(result(shard)) for shard in range(SEGMENT_SEALS)]
    assert list(read_seals(directory)) == written
    assert "the disk is full" in caplog.text
