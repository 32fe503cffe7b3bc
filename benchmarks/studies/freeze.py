"""How fast an inventory becomes a manifest, and in how much memory.

    .venv/bin/python -m noria.benchmarks.studies.freeze [--rows 10000000] [--folder /tmp]

Makes an Azure-like inventory of distinct rows in no order (60-character keys, sizes, ETags, dates,
content types, tiers), then freezes it three times, each time in a process of its own: as it lies,
with its batches in reverse order, and sorted. The three digests must agree. Making the inventory
is not counted, reading it is. The bar on two cores: 500,000 rows/s, below 2 GiB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from noria.manifests.manifest.freeze import freeze
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.providers import known_name_rules, limits_for
from noria.manifests.schema import INVENTORY_SCHEMA

BAR_ROWS_PER_SECOND = 500_000
BAR_PEAK_BYTES = 2 << 30
PROVIDER = "scaleway"
BATCH_ROWS = 61_440  # 30 vectors of DuckDB

INVENTORY = """
SELECT printf('project-%04d/study-%03d/', (hash(i) % 5000)::int, (hash(i + 7) % 500)::int)
        || md5(i::varchar) || '.dcm' AS key,
    (hash(i + 1) % 22_000_000)::bigint AS size,
    '0x8DC' || upper(substr(md5((i + 3)::varchar), 1, 12)) AS etag,
    (1_600_000_000_000 + (hash(i + 2) % 100_000_000_000)::bigint) AS last_modified,
    ['application/dicom', 'text/csv', 'application/json', 'image/png'][1 + (hash(i + 4) % 4)::int]
        AS content_type,
    'Hot' AS tier,
    'BlockBlob' AS blob_type
FROM range({rows}) numbers(i)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where some 600 bytes a row find room")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS, metavar=("ORDER", "FROM", "TO"))
    arguments = parser.parse_args()
    if arguments.one:
        order, source, directory = arguments.one
        print(json.dumps(freeze_once(order, Path(source), Path(directory))))
        return 0
    with tempfile.TemporaryDirectory(prefix="noria-freeze-", dir=arguments.folder) as folder:
        return compare(arguments.rows, Path(folder))


def compare(rows: int, folder: Path) -> int:
    print(f"{rows:,} rows; {describe_machine()}")
    source = folder / "inventory.arrow"
    make_inventory(rows, source)
    print("order         rows/s  seconds   CPU s  peak MiB  MiB out  digest")
    digests = set()
    for order in ("as it lies", "reversed", "sorted"):
        directory = folder / order / "manifest"
        if order == "sorted":
            source = sort_inventory(folder / "as it lies" / "manifest", folder / "sorted.arrow")
        command = [sys.executable, __file__, "--one", order, str(source), str(directory)]
        measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        digests.add(measured["digest"])
        print(report(order, rows, measured), flush=True)
    if len(digests) > 1:
        print("the digests differ", file=sys.stderr)
    return len(digests) - 1


def report(order: str, rows: int, measured: dict[str, Any]) -> str:
    rate = rows / measured["seconds"]
    line = (
        f"{order:10}{rate:>10,.0f}{measured['seconds']:>9.1f}{measured['cpu_seconds']:>8.1f}"
        f"{measured['peak_bytes'] / 2**20:>10,.0f}{measured['out_bytes'] / 2**20:>9,.0f}"
        f"  {measured['digest'][:16]}"
    )
    missed = [
        f"{rate / BAR_ROWS_PER_SECOND:.0%} of the bar's speed" * (rate < BAR_ROWS_PER_SECOND),
        "above the bar's memory" * (measured["peak_bytes"] > BAR_PEAK_BYTES),
    ]
    return "  ".join([line, *filter(None, missed)])


def describe_machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores {platform.machine()}, load {load:.1f} before, "
        f"Python {platform.python_version()}, pyarrow {pa.__version__}, duckdb {duckdb.__version__}"
    )


def make_inventory(rows: int, path: Path) -> None:
    with (
        duckdb.connect(config={"threads": os.cpu_count() or 1}) as database,
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, INVENTORY_SCHEMA) as writer,
    ):
        for batch in database.sql(INVENTORY.format(rows=rows)).to_arrow_reader(BATCH_ROWS):
            made = {name: batch.column(name) for name in batch.schema.names}
            columns = [
                made[one.name].cast(one.type)
                if one.name in made
                else pa.nulls(len(batch), one.type)
                for one in INVENTORY_SCHEMA
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=INVENTORY_SCHEMA))


def sort_inventory(frozen: Path, path: Path) -> Path:
    """The inventory that a manifest was made from, in the manifest's order."""
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, INVENTORY_SCHEMA) as writer,
    ):
        for part in sorted(frozen.glob("part-*.parquet")):
            with pq.ParquetFile(part, pre_buffer=False) as rows:
                for batch in rows.iter_batches(BATCH_ROWS, columns=INVENTORY_SCHEMA.names):
                    writer.write_batch(batch.cast(INVENTORY_SCHEMA))
    return path


def freeze_once(order: str, source: Path, directory: Path) -> dict[str, Any]:
    """One freeze, measured; this process should have done nothing before."""
    options = PlanOptions(limits=limits_for(PROVIDER), rules=known_name_rules(PROVIDER))
    started, cpu_before = time.perf_counter(), cpu_seconds()
    manifest = freeze(read(source, backwards=order == "reversed"), directory, options=options)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": cpu_seconds() - cpu_before,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "out_bytes": sum(path.stat().st_size for path in directory.iterdir()),
        "digest": manifest.digest,
    }


def read(path: Path, *, backwards: bool) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            place = reader.num_record_batches - 1 - number if backwards else number
            yield reader.get_batch(place)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
