"""Which flags serve the peers best: sets of them side by side, on each workload.

    .venv/bin/python -m noria.benchmarks.suite.tuning [--only bulk,small] [--share 0.25]

What comes out on top is what benchmarks/suite/peers.py gives them in the suite.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from noria.benchmarks.measure.spread import spread_of
from noria.benchmarks.suite.beds import run_bed
from noria.benchmarks.suite.rounds import Entry, ToolRun, run_rounds
from noria.benchmarks.suite.tools import Tool, juicefs, msc, rclone
from noria.benchmarks.suite.workloads import (
    GB,
    Workload,
    bulk,
    bulk_https,
    mixed,
    null_bulk,
    null_mixed,
    null_small,
    small,
)

TRUSTING = "--ignore-checksum --s3-disable-checksum"
UNHEADED = "--s3-no-head --s3-no-check-bucket --azureblob-no-head-object"
WHOLE = "--s3-upload-cutoff 5G --multi-thread-streams 0"
UNSIGNED = "--s3-use-unsigned-payload true"
UNBUFFERED = "--buffer-size 0"

TOOLS: Mapping[str, Callable[..., Tool]] = {"rclone": rclone, "juicefs": juicefs, "msc": msc}
SILENT = "MSC_SUPPRESS_PROGRESS_BAR=1"
UNCHECKED = 'target.request_checksum_calculation="when_required"'
RUST = 'target.rust_client={"allow_http":true}'
"""Its S3 client in Rust: it cannot be told of a CA, so there is none over https."""

MSC_SETS = (
    "msc",
    f"msc {SILENT} {UNCHECKED}",
    f"msc {SILENT} {UNCHECKED} MSC_NUM_PROCESSES=1",
    f"msc {SILENT} {UNCHECKED} MSC_NUM_THREADS_PER_PROCESS=32",
    f"msc {SILENT} {UNCHECKED} MSC_NUM_THREADS_PER_PROCESS=32 MSC_SYNC_BATCH_SIZE=10",
    f"msc {SILENT} {RUST}",
    f"msc {SILENT} {RUST} MSC_NUM_PROCESSES=1 MSC_NUM_THREADS_PER_PROCESS=32",
)
LARGE_SETS = (
    *MSC_SETS,
    "rclone --transfers 4",
    "rclone --transfers 16",
    "rclone --transfers 4 --s3-chunk-size 64M",
    f"rclone --transfers 4 --s3-chunk-size 64M --s3-upload-concurrency 2 {TRUSTING}",
    f"rclone --transfers 4 {TRUSTING} {UNHEADED} {UNSIGNED}",
    f"rclone --transfers 4 {WHOLE}",
    f"rclone --transfers 4 {WHOLE} {TRUSTING}",
    f"rclone --transfers 4 {WHOLE} {TRUSTING} {UNBUFFERED}",
    f"rclone --transfers 4 {WHOLE} {TRUSTING} {UNBUFFERED} {UNHEADED} {UNSIGNED}",
    f"rclone --transfers 9 {WHOLE} {TRUSTING} {UNBUFFERED} {UNHEADED} {UNSIGNED}",
    "juicefs --threads 4",
    "juicefs --threads 10",
    "juicefs --threads 32",
)
SMALL_SETS = (
    *MSC_SETS,
    "rclone --transfers 16",
    f"rclone --transfers 16 --checkers 16 {TRUSTING} {UNHEADED}",
    f"rclone --transfers 16 {TRUSTING} {UNHEADED} {UNSIGNED} {UNBUFFERED}",
    f"rclone --transfers 64 --checkers 16 {TRUSTING} {UNHEADED} {UNBUFFERED} --ignore-times",
    f"rclone --transfers 64 --checkers 16 {TRUSTING} {UNHEADED} {UNSIGNED} {UNBUFFERED}"
    " --ignore-times --use-server-modtime",
    f"rclone --transfers 128 --checkers 4 {TRUSTING} {UNHEADED} {UNSIGNED} {UNBUFFERED}"
    " --ignore-times --use-server-modtime",
    "juicefs --threads 16",
    "juicefs --threads 32",
    "juicefs --threads 64",
    "juicefs --threads 64 --force-update",
    "juicefs --threads 128 --list-threads 4 --list-depth 1",
)
MIXED_SETS = (
    *(words for words in LARGE_SETS if "--transfers 9" not in words),
    f"rclone --transfers 32 {WHOLE} {TRUSTING} {UNBUFFERED} {UNHEADED} {UNSIGNED}",
    f"rclone --transfers 32 --order-by size,mixed,75 {WHOLE} {TRUSTING} {UNBUFFERED} {UNHEADED}",
)
NULL_BYTES = 4 * GB
TRIALS: Mapping[str, tuple[Callable[[float], Workload], Sequence[str]]] = {
    "bulk": (bulk, LARGE_SETS),
    "bulk-https": (bulk_https, LARGE_SETS),
    "small": (small, SMALL_SETS),
    "mixed": (mixed, MIXED_SETS),
    "null-bulk": (lambda share: null_bulk(int(NULL_BYTES * share), tls=False), LARGE_SETS),
    "null-bulk-https": (lambda share: null_bulk(int(NULL_BYTES * share), tls=True), LARGE_SETS),
    "null-small": (null_small, SMALL_SETS),
    "null-mixed": (null_mixed, MIXED_SETS),
}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="names of workloads, with commas between them")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tool", help="rclone, juicefs or msc alone")
    parser.add_argument("--share", type=float, default=0.25, help="of each workload's size")
    arguments = parser.parse_args()
    for name in arguments.only.split(",") if arguments.only else TRIALS:
        make, sets = TRIALS[name]
        workload = make(arguments.share)
        print(workload.title, flush=True)
        chosen = [words for words in sets if arguments.tool in (None, words.split()[0])]
        tools = [tool_of(words) for words in chosen]
        with run_bed(workload) as test_bed:
            entries = [Entry(workload=workload, test_bed=test_bed, tool=tool) for tool in tools]
            runs = list(run_rounds(entries, rounds=arguments.rounds, say=lambda line: None))
            print_table(runs, tools)
    return 0


def tool_of(words: str) -> Tool:
    tool, *flags = words.split()
    return TOOLS[tool](flags, name=words)


def print_table(runs: Sequence[ToolRun], tools: Sequence[Tool]) -> None:
    print("    CPU s/GB  CPU us/object       wall s   MiB")
    for tool in tools:
        mine = [run for run in runs if run.tool == tool.name]
        valid = [run for run in mine if run.counts]
        per_gb = spread_of(run.cpu_seconds_per_gb for run in valid)
        per_object = spread_of(run.cpu_microseconds_per_object for run in valid)
        wall = spread_of(run.usage.wall_seconds for run in valid)
        if per_gb is None or per_object is None or wall is None:
            trouble = next((run.trouble for run in mine if run.trouble), "not run")
            print(f"  void  {tool.name}\n        {trouble}", flush=True)
            continue
        peak = max(run.usage.peak_rss_bytes for run in valid) / 2**20
        print(
            f"{per_gb.median:12.2f}{per_object.median:15,.0f}{wall.median:13.2f}{peak:6,.0f}"
            f"  {tool.name}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
