"""How fast a flat container is listed over a distance, and what a million names cost.

    .venv/bin/python -m noria.benchmarks.studies.listing [--objects 1000000] [--delay-ms 40]

The null source holds names of 59 characters side by side, behind a road of `--delay-ms` each way.
They are listed page by page, and in pieces on `--streams` threads. CPU is that of this process
alone. The bar: 8 x as fast in pieces, at most 6 CPU seconds a million names.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator

from noria.benchmarks.null.road import run_road
from noria.benchmarks.null.stores import ACCOUNT, ACCOUNT_KEY, CONTAINER, run_null_source
from noria.workers.stores.azure.settings import AzureSettings
from noria.workers.stores.azure.store import AzureStore
from noria.workers.stores.listing import list_objects


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--delay-ms", type=float, default=40.0, help="one way")
    parser.add_argument("--streams", type=int, default=16)
    arguments = parser.parse_args()
    print("way        objects   seconds  objects/s  CPU s a million")
    with (
        run_null_source(names(arguments.objects)) as source,
        run_road(source.port, delay_ms=arguments.delay_ms) as road,
    ):
        settings = AzureSettings(
            account=ACCOUNT,
            container=CONTAINER,
            endpoint=f"http://127.0.0.1:{road.port}/{ACCOUNT}",
            account_key=ACCOUNT_KEY,
            allow_plain_http=True,
        )
        store = AzureStore(settings)
        for way, streams in (("serial", 1), ("in pieces", arguments.streams)):
            began, cpu = time.monotonic(), time.process_time()
            listed = sum(batch.num_rows for batch in list_objects(store, "", streams=streams))
            seconds, used = time.monotonic() - began, time.process_time() - cpu
            print(
                f"{way:9}{listed:>9,}{seconds:>10.1f}{listed / seconds:>11,.0f}"
                f"{used / listed * 1e6:>17.2f}",
                flush=True,
            )
            if listed != arguments.objects:
                print(f"{arguments.objects:,} were there", file=sys.stderr)
                return 1
        store.close()
    return 0


def names(count: int) -> Iterator[tuple[str, int]]:
    """Names as of a study's files, and their sizes."""
    for number in range(count):
        digest = hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()
        yield f"project-0017-study-221-{digest}.dcm", number % 22_000_000


if __name__ == "__main__":
    sys.exit(main())
