"""States on disk: written whole or not at all, by one process at a time; damage has a name."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from noria.manifests.errors import AnotherDriver, JobDirectoryError
from noria.manifests.passes.migration import Migration, migration_of
from noria.manifests.passes.state import (
    STATE_SCHEMA,
    State,
    StateWriter,
    drop_state,
    open_state,
)
from tests.support.small_disk import SmallDisk

REPOSITORY = Path(__file__).parents[3]


def rows(count: int) -> pa.Table:
    draw = random.Random(count)
    said = {
        "key": [f"folder/object-{number:08d}" for number in range(count)],
        "target_etag": [draw.randbytes(16).hex() for _ in range(count)],
        "size": [1] * count,
        "written": [True] * count,
        "pass": [1] * count,
    }
    columns = [pa.array(said.get(one.name, [None] * count), one.type) for one in STATE_SCHEMA]
    return pa.table(columns, schema=STATE_SCHEMA)


def write(folder: Path, count: int = 1_000) -> State:
    with StateWriter(folder, 1) as writer:
        writer.append(rows(count))
        return writer.finish()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "000001"


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.parent.iterdir()}


KILLED = """
import os, sys
from pathlib import Path
from noria.manifests.passes.state import StateWriter
from tests.manifests.passes.test_state import rows

with StateWriter(Path(sys.argv[1]), 1) as writer:
    writer.append(rows(200_000))  # some blocks are on disk, and the file is open
    os._exit(0)
"""


def test_what_a_killed_process_leaves_is_removed_by_the_next(folder: Path) -> None:
    other = folder.with_name("000002")
    subprocess.run([sys.executable, "-c", KILLED, other], check=True, cwd=REPOSITORY)
    assert open_state(other) is None
    assert len(names(folder) - {"lock"}) == 1
    write(folder)
    assert names(folder) == {"lock", "000001"}


def test_two_at_once_are_refused_and_the_first_goes_on(folder: Path) -> None:
    with StateWriter(folder, 1) as first:
        first.append(rows(10))
        with pytest.raises(AnotherDriver, match="wait for it"), StateWriter(folder, 1):
            pass
        first.finish()
    found = open_state(folder)
    assert found is not None
    assert found.facts.objects == 10


def test_one_that_fails_leaves_what_was_there(folder: Path) -> None:
    write(folder, 10)
    with pytest.raises(pa.ArrowInvalid), StateWriter(folder, 1) as writer:
        writer.append(pa.concat_tables([rows(70_000), rows(1).drop_columns("size")]))
    found = open_state(folder)
    assert found is not None
    assert found.facts.objects == 10
    assert names(folder) == {"lock", "000001"}
    write(folder, 11)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "small"
    with SmallDisk(home, "1m"):
        with pytest.raises(JobDirectoryError, match=r"No space left.*room"):
            write(home / "000001", 200_000)
        assert {each.name for each in home.iterdir()} == {"lock"}
        write(home / "000001", 100)


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    for mode in ("ro", "rw"):
        subprocess.run(["mount", "-o", f"remount,{mode}", place], check=True)
        if mode == "ro":
            yield


def test_a_state_that_cannot_be_dropped_is_not_taken_for_dropped(tmp_path: Path) -> None:
    """It would be read again as what stands, after its seals have become others."""
    home = tmp_path / "small"
    with SmallDisk(home, "4m"):
        state = write(home / "000001")
        with read_only(home):
            with pytest.raises(JobDirectoryError, match="Read-only"):
                drop_state(home / "000001")
            with pytest.raises(JobDirectoryError, match="Read-only"):
                write(home / "000002")
            assert sum(map(len, state.blocks())) == 1_000
        drop_state(home / "000001")
        assert open_state(home / "000001") is None
        drop_state(home / "000001")


def test_a_bit_that_flipped_is_damage_and_not_a_lack_of_room(folder: Path) -> None:
    path = write(folder).folder / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    damaged = open_state(folder)
    assert damaged is not None, "its files have their sizes"
    with pytest.raises(JobDirectoryError, match=r"is damaged; remove that folder"):
        list(damaged.blocks())


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"number": 1}'])
def test_a_record_that_is_damaged_is_named(folder: Path, damage: str) -> None:
    write(folder)
    (folder / "state.json").write_text(damage)
    with pytest.raises(JobDirectoryError, match=r"state.json is damaged; remove that folder"):
        open_state(folder)


def test_a_state_that_lacks_a_file_is_named(folder: Path) -> None:
    write(folder)
    (folder / "part-00000.parquet").unlink()
    with pytest.raises(JobDirectoryError, match="lacks a file; remove that folder"):
        open_state(folder)


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_ranges_begin_with_blocks_and_are_as_many_as_asked(
    folder: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.manifests.passes.state.BLOCK_ROWS", 10)
    monkeypatch.setattr("noria.manifests.passes.state.BLOCKS_PER_FILE", 3)
    state = write(folder, 101)
    first_keys = [block["key"][0].as_py() for block in state.blocks()]
    ranges = state.ranges(most)
    assert ranges.number == {1: 1, 2: 2, 3: 3, 100: 11}[most]
    assert set(ranges.splits) <= set(first_keys[1:])


def pass_of(root: Path, number: int) -> Path:
    """A job directory of a migration, as far as anybody looks."""
    place = Migration(root).place(number)
    place.mkdir(parents=True, exist_ok=True)
    (place / "job.json").write_text("{}")
    return place


def test_a_pass_is_known_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "move"
    pass_of(root, 1)
    second, third = pass_of(root, 2), pass_of(root, 3)
    (tmp_path / "latest").symlink_to(third)
    monkeypatch.chdir(second)
    for name in (second, Path("."), Path("../000002"), root / "passes" / ".." / "passes/000002"):
        assert (migration_of(name)[0].root, migration_of(name)[1]) == (root, 2)
    assert migration_of(tmp_path / "latest")[1] == 3


def test_passes_may_lie_on_another_disk(tmp_path: Path) -> None:
    root = tmp_path / "move"
    pass_of(root, 1)
    (tmp_path / "large").mkdir()
    (root / "passes").symlink_to(tmp_path / "large")
    pass_of(root, 2)
    migration, number = migration_of(root / "passes" / "000002")
    assert (migration.root, number, migration.last) == (root, 2, 2)


def test_a_first_job_may_be_named_like_a_pass(tmp_path: Path) -> None:
    """Of the day, say, in a folder of that name which is no job."""
    place = pass_of(tmp_path / "passes" / "20261128", 1)
    migration, number = migration_of(place)
    assert (migration.root, number) == (place, 1)
