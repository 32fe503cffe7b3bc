"""What people asked for is written once, read in order, and never half."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.control import ControlKind, ControlLog, append, read
from noria.manifests.job.directory import JobDirectory

AT = datetime(2026, 11, 28, 7, 20, 14, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory(tmp_path)


def test_a_record_is_read_as_it_was_written(directory: JobDirectory) -> None:
    settings = {"bandwidth": 2e8, "workers": 12, "paused": False}
    written = append(
        directory, ControlKind.SET, settings, until=AT, reason="night", by="ann@mover-1", at=AT
    )
    assert read(directory) == [written]
    assert (written.number, written.by, written.at, written.until) == (1, "ann@mover-1", AT, AT)
    assert written.settings == settings
    assert written.reason == "night"


def test_a_log_has_each_record_once(directory: JobDirectory) -> None:
    log = ControlLog(directory)
    assert list(log.look()) == []
    first, second = append(directory, ControlKind.PAUSE), append(directory, ControlKind.RESUME)
    assert list(log.look()) == [first, second]
    assert list(log.look()) == []
    third = append(directory, ControlKind.DRAIN)
    assert list(log.look()) == [third]
    assert ControlLog(directory).records == [first, second, third]


def test_all_writers_at_once_have_a_number_each(directory: JobDirectory) -> None:
    def write(who: int) -> None:
        for _ in range(5):
            append(directory, ControlKind.PAUSE, by=f"writer-{who}")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.number for each in read(directory)] == list(range(1, 21))


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"number":1', b"\xff"])
def test_a_damaged_record_is_named(directory: JobDirectory, damage: bytes) -> None:
    append(directory, ControlKind.PAUSE)
    (directory.root / "control/000001.json").write_bytes(damage)
    with pytest.raises(JobDirectoryError, match=r"control/000001\.json is changed"):
        read(directory)


def test_a_missing_record_is_named_and_its_number_is_not_taken(directory: JobDirectory) -> None:
    for _ in range(3):
        append(directory, ControlKind.PAUSE)
    (directory.root / "control/000002.json").unlink()
    with pytest.raises(JobDirectoryError, match=r"control/000002\.json is missing"):
        append(directory, ControlKind.RESUME)


def test_a_log_goes_on_once_a_damaged_record_is_restored(directory: JobDirectory) -> None:
    log = ControlLog(directory)
    append(directory, ControlKind.PAUSE)
    path = directory.root / "control/000001.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(JobDirectoryError):
        log.look()
    path.write_bytes(whole)
    assert [each.kind for each in log.look()] == [ControlKind.PAUSE]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1, "many"])
def test_values_of_another_form_are_refused(directory: JobDirectory, value: object) -> None:
    with pytest.raises(ValueError, match="value of a setting"):
        append(directory, ControlKind.SET, {"bandwidth": value})  # type: ignore[dict-item]  # what is refused
    assert read(directory) == []


def test_what_cannot_be_printed_is_not_kept(directory: JobDirectory) -> None:
    written = append(directory, ControlKind.PAUSE, reason="a\x1b[31mred\nline")
    assert written.reason == "a?[31mred?line"
