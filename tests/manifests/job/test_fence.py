"""What a driver notes for the next one about its workers, and how the next one heeds it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.manifests.errors import AnotherDriver
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.fence import Fence

TIMEOUT = 60.0
DAY = 86_400.0


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {})


def note_of(directory: JobDirectory, epoch: int) -> Path:
    return directory.path(f"epochs/{epoch:010d}-workers.json")


def next_fence(
    directory: JobDirectory, clock: Callable[[], float] = lambda: 0.0
) -> tuple[Fence, int]:
    """That of one more driver, whose lock is let go: the test is all drivers."""
    with directory.hold() as hold:
        return Fence(directory, hold.epoch, clock=clock), hold.epoch


def touch(path: Path, *, seconds_ago: float, by: Path) -> None:
    """As if the file had been touched so long before another one."""
    now = by.stat().st_mtime
    os.utime(path, (now, now - seconds_ago))


def test_workers_that_end_with_their_driver_are_not_waited_for(directory: JobDirectory) -> None:
    first, _ = next_fence(directory)
    first.keep()
    second, _ = next_fence(directory)
    assert second.earlier() is None


def test_a_driver_that_saw_its_workers_end_leaves_no_note(directory: JobDirectory) -> None:
    first, epoch = next_fence(directory)
    first.begin("10.0.0.1:6379", TIMEOUT)
    assert note_of(directory, epoch).exists()
    assert first.earlier() is None, "nobody waits for oneself"
    first.end()
    first.end()
    assert not note_of(directory, epoch).exists()
    second, _ = next_fence(directory)
    assert second.earlier() is None


def test_workers_of_one_that_did_not_are_waited_for_from_its_last_sign_of_life(
    directory: JobDirectory,
) -> None:
    first, epoch = next_fence(directory)
    first.begin("10.0.0.1:6379", TIMEOUT)
    first.keep()
    second, second_epoch = next_fence(directory)
    own = directory.path(f"epochs/{second_epoch:010d}.json")
    earlier = second.earlier()
    assert earlier is not None
    assert earlier.cluster == "10.0.0.1:6379"
    assert TIMEOUT - 20 < earlier.seconds_left <= TIMEOUT
    touch(note_of(directory, epoch), seconds_ago=40, by=own)
    earlier = second.earlier()
    assert earlier is not None
    assert TIMEOUT - 60 < earlier.seconds_left <= TIMEOUT - 40
    touch(note_of(directory, epoch), seconds_ago=TIMEOUT + 1, by=own)
    assert second.earlier() is None
    assert not note_of(directory, epoch).exists(), "nor does the next one wait"


def test_a_clock_that_is_set_makes_no_wait_longer_than_the_timeout(
    directory: JobDirectory,
) -> None:
    """What this process has seen pass itself is enough."""
    now = [1000.0]
    first, epoch = next_fence(directory)
    first.begin("10.0.0.1:6379", TIMEOUT)
    second, second_epoch = next_fence(directory, lambda: now[0])
    own = directory.path(f"epochs/{second_epoch:010d}.json")
    touch(note_of(directory, epoch), seconds_ago=-DAY, by=own)
    earlier = second.earlier()
    assert earlier is not None
    assert earlier.seconds_left == TIMEOUT
    now[0] += TIMEOUT - 1
    earlier = second.earlier()
    assert earlier is not None
    assert earlier.seconds_left == 1
    touch(note_of(directory, epoch), seconds_ago=-DAY - 5, by=own)
    earlier = second.earlier()
    assert earlier is not None
    assert earlier.seconds_left == TIMEOUT, "it was touched again: its driver lived"
    now[0] += TIMEOUT
    assert second.earlier() is None


def test_of_several_the_last_to_end_is_waited_for(directory: JobDirectory) -> None:
    for seconds in (10.0, 500.0, 20.0):
        next_fence(directory)[0].begin(f"cluster-{seconds:.0f}", seconds)
    earlier = next_fence(directory)[0].earlier()
    assert earlier is not None
    assert earlier.cluster == "cluster-500"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"heartbeat_timeout_seconds": "x"}'])
def test_what_is_no_note_is_not_waited_for(directory: JobDirectory, content: str) -> None:
    next_fence(directory)
    note_of(directory, 1).write_text(content)
    assert next_fence(directory)[0].earlier() is None


def test_a_driver_that_was_overtaken_is_told_before_it_does_anything(
    directory: JobDirectory,
) -> None:
    first, epoch = next_fence(directory)
    first.begin("10.0.0.1:6379", TIMEOUT)
    first.keep()
    before = note_of(directory, epoch).stat().st_mtime
    second, _ = next_fence(directory)
    with pytest.raises(AnotherDriver, match="taken"):
        first.keep()
    assert note_of(directory, epoch).stat().st_mtime == before
    second.keep()


def test_a_note_does_not_count_as_an_epoch(directory: JobDirectory) -> None:
    """Nor as who held the job last."""
    first, epoch = next_fence(directory)
    first.begin("10.0.0.1:6379", TIMEOUT)
    assert next_fence(directory)[1] == epoch + 1
    said = json.loads(directory.path(f"epochs/{epoch:010d}.json").read_bytes())
    assert said["host"]


def test_a_client_of_nfs_looks_again_who_has_the_job(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seen that there was no next epoch, and believes that until it opens the folder."""
    first, _ = next_fence(directory)
    first.keep()
    next_fence(directory)
    looked: list[Path] = []
    real_open, real_exists = os.open, Path.exists

    def opened(path: Path, flags: int) -> int:
        looked.append(path)
        return real_open(path, flags)

    def exists(path: Path) -> bool:
        return path.parent in looked and real_exists(path)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(AnotherDriver):
        first.keep()
