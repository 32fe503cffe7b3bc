"""The history of a migration: whole records in a row, one writer each, and no change unseen."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Fact, Record, RecordKind
from tests.support.killed_lines import killed_after

WRITERS = 8


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def append(directory: JobDirectory, number: int) -> Record:
    return history.append(directory, RecordKind.PASS_ENDED, {"pass": number}, by="ann@mover-1")


def filled(directory: JobDirectory, records: int = 4) -> list[Path]:
    for number in range(1, records + 1):
        append(directory, number)
    return [directory.path(name) for name in directory.names("history")]


def test_a_record_is_canonical_and_names_the_one_before(directory: JobDirectory) -> None:
    at = datetime(2026, 11, 28, 8, 20, 14, tzinfo=timezone(timedelta(hours=1)))
    history.append(
        directory,
        RecordKind.FROZEN,
        {"exit_code": 0, "command": "freeze"},
        by="ann@mover-1",
        at=at,
    )
    first = directory.path("history/000001.json").read_bytes()
    assert first == (
        b'{"at":"2026-11-28T07:20:14Z","by":"ann@mover-1",'
        b'"facts":{"command":"freeze","exit_code":0},"kind":"frozen","number":1,'
        b'"previous":"' + b"0" * 64 + b'"}\n'
    )
    second = append(directory, 2)
    assert second.previous == hashlib.sha256(first).hexdigest()
    assert second.digest == hashlib.sha256(_bytes(directory, 2)).hexdigest()


def _bytes(directory: JobDirectory, number: int) -> bytes:
    return directory.path(f"history/{number:06d}.json").read_bytes()


def test_what_was_appended_is_read(directory: JobDirectory) -> None:
    assert history.read(directory) == []
    assert history.head([]) == history.FIRST_PREVIOUS
    written = [append(directory, number) for number in (1, 2, 3)]
    found = history.read(directory)
    assert found == written
    assert history.head(found) == written[-1].digest
    assert history.last(directory, RecordKind.PASS_ENDED) == written[-1]
    assert history.last(directory, RecordKind.FROZEN) is None


def test_it_says_who_and_when_by_itself(directory: JobDirectory) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    record = history.append(directory, RecordKind.PLANNED, {})
    assert record.by == history.whoami()
    assert record.by.endswith(f"@{os.uname().nodename}")
    assert before <= datetime.fromisoformat(record.at) <= datetime.now(UTC)


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert history.whoami().startswith(f"uid-{os.getuid()}@")


def test_writers_at_once_follow_each_other(directory: JobDirectory) -> None:
    barrier = Barrier(WRITERS)

    def write(writer: int) -> list[Record]:
        barrier.wait()
        return [append(directory, 100 * writer + turn) for turn in range(5)]

    with ThreadPoolExecutor(WRITERS) as pool:
        written = list(itertools.chain.from_iterable(pool.map(write, range(WRITERS))))
    assert sorted(written, key=lambda record: record.number) == history.read(directory)
    assert len({record.facts["pass"] for record in written}) == 5 * WRITERS


def test_of_two_who_may_not_both_one_is_refused(directory: JobDirectory) -> None:
    """The check sees the record that was first."""
    barrier = Barrier(WRITERS)

    def only_once(records: Sequence[Record]) -> None:
        if any(record.kind is RecordKind.FROZEN for record in records):
            raise ConfigurationError("frozen already")

    def freeze(_: int) -> bool:
        barrier.wait()
        try:
            history.append(directory, RecordKind.FROZEN, {}, check=only_once)
        except ConfigurationError:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        assert sum(pool.map(freeze, range(WRITERS))) == 1
    assert len(history.read(directory)) == 1


def test_a_writer_that_always_loses_gives_up(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JobDirectory, "write_once", lambda *_: False)
    with pytest.raises(JobDirectoryError, match="run again"):
        append(directory, 1)


@pytest.mark.timeout(600)  # each line is a process of its own, as large as the one that tests
def test_a_writer_killed_at_any_line_leaves_a_whole_record_or_none(tmp_path: Path) -> None:
    left = set()
    for changes in itertools.count():
        directory = JobDirectory.create(tmp_path / f"{changes}", {"id": "j"})
        append(directory, 1)
        if not killed_after(changes, directory.root, partial(append, directory, 2)):
            break
        found = len(history.read(directory)) - 1
        after = append(directory, 3)
        *_, before, newest = history.read(directory)
        assert newest == after
        # A record that was elected, and had no name yet, is made whole by the next writer.
        assert before.facts["pass"] == 2 or not found
        left.add(found)
    assert left == {0, 1}


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"ann@", b"bob@"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def respelled(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=1) + "\n")


def of_a_newer_version(path: Path) -> None:
    values = {**json.loads(path.read_bytes()), "kind": "teleported"}
    path.write_text(json.dumps(values, sort_keys=True, separators=(",", ":")) + "\n")


def with_a_list(path: Path) -> None:
    values = {**json.loads(path.read_bytes()), "facts": {"keys": ["secret/name"]}}
    path.write_text(json.dumps(values, sort_keys=True, separators=(",", ":")) + "\n")


def foreign(path: Path) -> None:
    path.write_bytes(b"\xff\x00[[")


def swapped(path: Path) -> None:
    other = path.with_name("000001.json")
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (changed, "000003.json does not follow history/000002.json"),
        (Path.unlink, "000002.json is missing"),
        (truncated, "000002.json is changed"),
        (emptied, "000002.json is changed"),
        (respelled, "000002.json is changed"),
        (of_a_newer_version, "000002.json is changed"),
        (with_a_list, "000002.json is changed"),
        (foreign, "000002.json is changed"),
        (swapped, "000001.json is another record"),
    ],
)
def test_damage_is_told_in_one_line_that_names_the_file(
    directory: JobDirectory, damage: Callable[[Path], object], named: str
) -> None:
    damage(filled(directory)[1])
    for call in (history.read, partial(append, number=9)):
        with pytest.raises(JobDirectoryError, match=named) as caught:
            call(directory)
        assert "\n" not in caught.value.message
        assert "secret" not in caught.value.message
    assert not directory.path("history/000005.json").exists()


@pytest.mark.parametrize("name", ["notes.txt", "000000.json", "1.json", "000002.json.bak"])
def test_a_foreign_file_is_named(directory: JobDirectory, name: str) -> None:
    filled(directory)
    directory.path(f"history/{name}").write_text("{}")
    with pytest.raises(JobDirectoryError, match=f"history/{name} is not a record"):
        history.read(directory)


def test_every_bit_counts(directory: JobDirectory) -> None:
    """Of every record but the last; of that one, the digest changes."""
    paths = filled(directory, records=2)
    head = history.head(history.read(directory))
    for path in paths:
        data = path.read_bytes()
        for place in range(len(data)):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            try:
                found = history.head(history.read(directory))
            except JobDirectoryError:
                continue
            assert path == paths[-1]
            assert found != head
        path.write_bytes(data)
    assert history.head(history.read(directory)) == head


def test_a_history_that_was_written_again_has_another_head(directory: JobDirectory) -> None:
    paths = filled(directory)
    written_down = history.head(history.read(directory))
    for path in paths[2:]:
        path.unlink()
    for number in (3, 40):
        append(directory, number)
    assert written_down not in {record.digest for record in history.read(directory)}


@pytest.mark.parametrize(
    "facts",
    [
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"count": 2**63},
        {"keys": ["a", "b"]},
        {"command": "two\nlines"},
        {"command": "\x1b[31m"},
        {"command": "x" * 257},
        {"": 1},
        {"Not a word": 1},
    ],
)
def test_facts_of_another_form_are_refused_and_leave_nothing(
    directory: JobDirectory, facts: dict[str, Fact]
) -> None:
    with pytest.raises(ValueError, match="fact"):
        history.append(directory, RecordKind.FROZEN, facts)
    assert history.read(directory) == []


def test_facts_come_back_as_they_were(directory: JobDirectory) -> None:
    facts: dict[str, Fact] = {
        "bytes": 2**63 - 1,
        "seconds": 0.1,
        "whole": 3.0,
        "ok": True,
        "none": None,
        "command": "über freeze",
    }
    history.append(directory, RecordKind.STOPPED, facts)
    (found,) = history.read(directory)
    assert found.facts == facts
    assert type(found.facts["whole"]) is float


def test_a_writer_of_another_form_is_refused(directory: JobDirectory) -> None:
    with pytest.raises(ValueError, match="printable"):
        history.append(directory, RecordKind.PLANNED, {}, by="ann\n@mover")


# -- read once in a process ------------------------------------------------------------------------


@pytest.fixture
def read_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from here on."""
    names: list[str] = []
    reads = JobDirectory.read

    def noted(self: JobDirectory, name: str) -> bytes | None:
        names.append(name)
        return reads(self, name)

    monkeypatch.setattr(JobDirectory, "read", noted)
    return names


def test_a_step_reads_what_came_since_the_last_one(
    directory: JobDirectory, read_names: list[str]
) -> None:
    filled(directory, 50)
    history.read(directory)
    read_names.clear()
    for number in (51, 52):
        append(directory, number)
    assert len(history.read(JobDirectory(directory.root))) == 52
    assert read_names == ["history/000051.json", "history/000052.json"]


@pytest.mark.parametrize("place", [1, 3, 4])
def test_a_change_is_seen_in_what_was_read_before(directory: JobDirectory, place: int) -> None:
    """Also one that leaves the size and the time as they were."""
    paths = filled(directory)
    known = history.read(directory)
    path = paths[place - 1]
    before, data = path.stat(), path.read_bytes()
    path.write_bytes(data.replace(b"ann@mover-1", b"eve@mover-1"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    if place == 4:  # nothing follows it: what was written down of the head tells
        assert history.head(history.read(directory)) != history.head(known)
    else:
        with pytest.raises(JobDirectoryError, match=r"does not follow"):
            history.read(directory)
    path.write_bytes(data)
    assert history.read(directory) == known


def test_records_that_are_taken_away_are_missed(directory: JobDirectory) -> None:
    paths = filled(directory)
    history.read(directory)
    paths[-1].unlink()
    assert len(history.read(directory)) == 3
    paths[0].unlink()
    with pytest.raises(JobDirectoryError, match="is missing"):
        history.read(directory)


def test_another_history_in_the_same_place_is_another(tmp_path: Path) -> None:
    one = JobDirectory.create(tmp_path / "job", {"id": "one"})
    filled(one)
    history.read(one)
    (tmp_path / "job").rename(tmp_path / "aside")
    other = JobDirectory.create(tmp_path / "job", {"id": "other"})
    assert history.read(other) == []
    append(other, 7)
    assert [each.facts for each in history.read(other)] == [{"pass": 7}]
