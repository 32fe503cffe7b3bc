"""What ends a freeze, or finds a manifest damaged: one clear line, and nothing half-made."""

from __future__ import annotations

import fcntl
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from noria.manifests.errors import AnotherDriver, InventoryError, JobDirectoryError
from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.schema import INVENTORY_SCHEMA
from tests.support.rows import freeze_rows, inventory, numbered, plan, shuffled


def test_a_manifest_is_never_replaced(tmp_path: Path) -> None:
    first = freeze_rows(tmp_path / "manifest", numbered(3))
    with pytest.raises(JobDirectoryError, match="never replaced"):
        freeze([inventory(numbered(4))], tmp_path / "manifest", options=plan())
    assert open_manifest(tmp_path / "manifest").digest == first.digest


def test_one_freeze_at_a_time(tmp_path: Path) -> None:
    scratch = tmp_path / ".manifest.freeze"
    scratch.mkdir()
    with open(scratch / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(AnotherDriver):
            freeze_rows(tmp_path / "manifest", numbered(3))
    assert freeze_rows(tmp_path / "manifest", numbered(3)).objects == 3
    assert [path.name for path in tmp_path.iterdir()] == ["manifest"]


def test_what_the_inventory_raises_passes_through(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield inventory(numbered(10))
        raise ConnectionResetError("listing")

    with pytest.raises(ConnectionResetError):
        freeze(broken(), tmp_path / "manifest", options=plan())
    assert list(tmp_path.iterdir()) == []
    assert freeze_rows(tmp_path / "manifest", numbered(10)).objects == 10


def test_rows_that_are_no_inventory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="no size"):
        freeze_rows(tmp_path / "manifest", [{"key": "a", "size": -1}])
    with pytest.raises(InventoryError, match="not an inventory"):
        freeze([pa.record_batch({"key": ["a"]})], tmp_path / "manifest", options=plan())
    for column in (INVENTORY_SCHEMA.field("key"), pa.field("key", pa.string())):
        nameless = inventory([{"key": "a"}]).set_column(0, column, pa.array([None], pa.string()))
        with pytest.raises(InventoryError, match="not an inventory"):
            freeze([nameless], tmp_path / "manifest", options=plan())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    directory = tmp_path / "it's [1] *?%" / "manifest"
    assert freeze_rows(directory, shuffled(numbered(30), 2)).objects == 30
    assert [path.name for path in directory.parent.iterdir()] == ["manifest"]


def test_damage_is_found(tmp_path: Path) -> None:
    manifest = freeze_rows(tmp_path / "manifest", numbered(50), plan(shard_objects=20))
    manifest.verify()
    path = tmp_path / "manifest" / "part-00000.parquet"
    whole = path.read_bytes()

    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(JobDirectoryError, match=r"part-00000\.parquet is not what was frozen"):
        open_manifest(tmp_path / "manifest").verify()
    path.write_bytes(whole[:-1])
    with pytest.raises(JobDirectoryError, match="not of its frozen size"):
        open_manifest(tmp_path / "manifest")
    path.unlink()
    with pytest.raises(JobDirectoryError, match="cannot read the manifest"):
        open_manifest(tmp_path / "manifest")


def test_rows_that_were_changed_with_their_checksum_are_found(tmp_path: Path) -> None:
    manifest = freeze_rows(tmp_path / "manifest", numbered(50))
    path = tmp_path / "manifest" / "part-00000.parquet"
    rows = pq.read_table(path)
    sizes = pa.array([2, *[1] * 49], pa.int64())
    pq.write_table(rows.set_column(1, rows.schema.field(1), sizes), path)
    data = path.read_bytes()
    facts = json.loads((tmp_path / "manifest" / "manifest.json").read_text())
    facts["files"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (tmp_path / "manifest" / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(JobDirectoryError, match="frozen digest"):
        open_manifest(tmp_path / "manifest").verify()
    assert manifest.objects == 50


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    freeze_rows(tmp_path / "manifest", numbered(1))
    path = tmp_path / "manifest" / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(JobDirectoryError, match="schema 99"):
        open_manifest(tmp_path / "manifest")
    path.write_text("{}")
    with pytest.raises(JobDirectoryError, match="cannot read"):
        open_manifest(tmp_path / "manifest")


FREEZE = """
import os, resource, signal, sys
from pathlib import Path
from noria.manifests.errors import JobDirectoryError
from noria.manifests.manifest.freeze import freeze
from tests.support.rows import inventory, numbered, plan, shuffled

rows = shuffled(numbered(3_000), 1)
batches = [inventory(rows[at : at + 500]) for at in range(0, 3_000, 500)]
"""


def in_child(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FREEZE + script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )


KILLED = """
calls, publishing, last = 0, 0, int(sys.argv[2])

def count(frame, event, argument):
    global calls, publishing
    if event in ("call", "c_call", "c_return") and "/manifests/" in frame.f_code.co_filename:
        calls += 1
        if frame.f_code.co_name == "_publish" and event == "call":
            publishing = calls
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(count)
freeze(batches, Path(sys.argv[1]), options=plan(shard_objects=100))
sys.setprofile(None)
print(calls, publishing)
"""


def test_a_kill_leaves_no_manifest_or_a_whole_one(tmp_path: Path) -> None:
    rows = numbered(3_000)
    whole = freeze_rows(tmp_path / "whole" / "manifest", rows, plan(shard_objects=100))
    finished = in_child(KILLED, str(tmp_path / "counted" / "manifest"), "0")
    calls, publishing = map(int, finished.stdout.split())
    seed = random.randrange(2**32)
    print(f"seed {seed}, {calls} calls")
    generator = random.Random(seed)
    # Anywhere, and around the moment when the manifest gets its name.
    points = {generator.randrange(1, calls), publishing - generator.randrange(30)}
    points |= set(generator.sample(range(publishing + 1, publishing + 18), 2))
    for point in points:
        directory = tmp_path / f"killed-{point}" / "manifest"
        killed = in_child(KILLED, str(directory), str(point))
        assert killed.returncode == -9, killed.stderr
        expect_nothing_or_the_whole(directory, [inventory(rows)], whole)


def expect_nothing_or_the_whole(
    directory: Path, batches: list[pa.RecordBatch], whole: Manifest
) -> None:
    """After a kill: a repeat gives the same manifest, and nothing else is left."""
    if directory.exists():
        found = open_manifest(directory)
        found.verify()
    else:
        with pytest.raises(JobDirectoryError):
            open_manifest(directory)
        found = freeze(batches, directory, options=whole.options)
        assert [path.name for path in directory.parent.iterdir()] == ["manifest"]
    assert found.digest == whole.digest


KILLED_AT_A_TIME = """
import threading, time
from noria.manifests.manifest import freeze as freeze_module
from tests.manifests.manifest.test_manifest_failures import many_rows

freeze_module.RANGE_BYTES = 300_000
batches = many_rows()
begun = time.monotonic()
if len(sys.argv) > 2:
    kill = threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGKILL))
    kill.daemon = True
    kill.start()
freeze(batches, Path(sys.argv[1]), options=plan(shard_objects=5_000))
print(time.monotonic() - begun)
"""


def many_rows() -> list[pa.RecordBatch]:
    """200,000 rows in no order."""
    numbers = pa.array(random.Random(9).sample(range(200_000), 200_000), pa.int64())
    columns = {one.name: pa.nulls(len(numbers), one.type) for one in INVENTORY_SCHEMA}
    columns["key"] = pc.binary_join_element_wise("folder/", numbers.cast(pa.string()), "")
    columns["size"] = numbers
    rows = pa.RecordBatch.from_arrays(list(columns.values()), schema=INVENTORY_SCHEMA)
    return [rows.slice(at, 20_000) for at in range(0, len(rows), 20_000)]


def test_a_kill_at_any_time_leaves_what_a_repeat_replaces(tmp_path: Path) -> None:
    unharmed = in_child(KILLED_AT_A_TIME, str(tmp_path / "whole" / "manifest"))
    seconds = float(unharmed.stdout)
    whole = open_manifest(tmp_path / "whole" / "manifest")
    seed = random.randrange(2**32)
    print(f"seed {seed}, {seconds} seconds")
    generator = random.Random(seed)
    for place in range(5):
        directory = tmp_path / f"killed-{place}" / "manifest"
        in_child(KILLED_AT_A_TIME, str(directory), str(generator.uniform(0, seconds)))
        expect_nothing_or_the_whole(directory, many_rows(), whole)


FULL = """
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    freeze(batches, Path(sys.argv[1]), options=plan(shard_objects=100))
except JobDirectoryError as error:
    sys.exit(f"{error}")
"""


@pytest.mark.parametrize("limit", [1_000, 8_000])
def test_a_full_disk_is_one_clear_line(tmp_path: Path, limit: int) -> None:
    # No file may grow beyond the limit: the spool fails first, or a part file.
    ended = in_child(FULL, str(tmp_path / "manifest"), str(limit))
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"cannot use the manifest {tmp_path}/manifest: ")
    assert "give it room" in ended.stderr
    assert list(tmp_path.iterdir()) == []
    assert freeze_rows(tmp_path / "manifest", numbered(5)).objects == 5
