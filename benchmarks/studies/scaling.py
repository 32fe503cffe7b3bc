"""How many cores and nodes a move takes, on paper: measured constants and plain arithmetic.

    .venv/bin/python -m noria.benchmarks.studies.scaling --cpu-per-gb 1.5 --cpu-per-object 400

The constants are what one run of the suite found on one machine: CPU seconds a
further GB costs over https, start-up taken out, and CPU microseconds a small object costs. Cores
are taken to be like those, and at most UTILIZATION busy; a node has CORES_PER_NODE of them and a
network card of NODE_GBITS in each direction. Prints Markdown.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

GBIT = 1e9 / 8
PB = 1e15
DAY_SECONDS = 86_400

UTILIZATION = 0.7
"""The rest is for the knee, for retries, and for whoever else runs on the node."""
CORES_PER_NODE = 16
NODE_GBITS = 25
MARGIN = 0.8
"""Of a card: what TCP and TLS leave to bodies, and what a busy hour leaves of the line."""


def cores(bytes_per_second: float, cpu_per_gb: float) -> int:
    return math.ceil(bytes_per_second / 1e9 * cpu_per_gb / UTILIZATION)


def nodes(bytes_per_second: float, needed_cores: int) -> int:
    by_card = bytes_per_second / (NODE_GBITS * GBIT * MARGIN)
    return math.ceil(max(by_card, needed_cores / CORES_PER_NODE))


def line_rates(cpu_per_gb: float) -> Iterator[str]:
    yield "| line | bytes | cores | nodes | 10 PB take |"
    yield "|---|---|---|---|---|"
    for gbits in (25, 100, 400):
        rate = gbits * GBIT * MARGIN
        needed = cores(rate, cpu_per_gb)
        days = 10 * PB / rate / DAY_SECONDS
        yield (
            f"| {gbits} Gbit/s | {rate / 1e9:.1f} GB/s | {needed} | {nodes(rate, needed)} "
            f"| {days:.1f} days |"
        )


def deadlines(cpu_per_gb: float) -> Iterator[str]:
    yield "| 10 PB in | bytes | line in use | cores | nodes |"
    yield "|---|---|---|---|---|"
    for days in (14, 30, 60):
        rate = 10 * PB / (days * DAY_SECONDS)
        needed = cores(rate, cpu_per_gb)
        gbits = rate / GBIT
        yield (
            f"| {days} days | {rate / 1e9:.1f} GB/s | {gbits:.0f} Gbit/s | {needed} "
            f"| {nodes(rate, needed)} |"
        )


def objects(cpu_per_object: float) -> Iterator[str]:
    yield "| a billion objects in | objects/s | cores |"
    yield "|---|---|---|"
    for days in (1, 7, 14, 30):
        rate = 1e9 / (days * DAY_SECONDS)
        needed = math.ceil(rate * cpu_per_object / 1e6 / UTILIZATION)
        yield f"| {days} {'day' if days == 1 else 'days'} | {rate:,.0f} | {needed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cpu-per-gb", type=float, required=True, help="seconds, https")
    parser.add_argument("--cpu-per-object", type=float, required=True, help="microseconds, 4 KiB")
    constants = parser.parse_args()
    for table in (
        line_rates(constants.cpu_per_gb),
        deadlines(constants.cpu_per_gb),
        objects(constants.cpu_per_object),
    ):
        print("\n".join(table), end="\n\n")


if __name__ == "__main__":
    main()
