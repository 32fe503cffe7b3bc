"""What a job stands on is told in its status, and is no reason to stop if it cannot be told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from noria.engine.config.jobfile import EndConfig, JobConfig
from noria.engine.status import JobStatus, Phase
from noria.engine.surroundings import Surroundings

FOLDERS = JobConfig(source=EndConfig(url="file:///lake"), target=EndConfig(url="s3://bucket"))
KEYS = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "key",
    "AWS_CREDENTIAL_EXPIRATION": "1970-01-01T00:01:00Z",
}
STATUS = JobStatus(job="a", phase=Phase.MOVING, updated_seconds=1.0)


def test_room_and_credentials_are_told(tmp_path: Path) -> None:
    told = Surroundings(tmp_path, FOLDERS, KEYS).told_in(STATUS)
    free = shutil.disk_usage(tmp_path).free
    assert told.free_bytes is not None
    assert abs(told.free_bytes - free) < 10**9
    assert told.credentials_end == {"target": 60.0}


def test_room_is_not_looked_at_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network's file system each look is a request."""
    looks: list[Path] = []
    usage = shutil.disk_usage(tmp_path)

    def look(path: Path) -> object:
        looks.append(path)
        return usage

    monkeypatch.setattr(shutil, "disk_usage", look)
    watched = Surroundings(tmp_path, FOLDERS, {})
    told = [watched.told_in(STATUS).free_bytes for _ in range(5)]
    assert told == [usage.free] * 5
    assert looks == [tmp_path]


def test_a_folder_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    told = Surroundings(tmp_path / "gone", FOLDERS, {}).told_in(STATUS)
    assert told.free_bytes is None
    assert told.credentials_end == {}
