"""Which flags serve rclone and juicefs sync best: sets of them side by side, on each workload.

    .venv/bin/python -m noria.benchmarks.suite.tuning [--only bulk,small] [--share 0.25]

What comes out on top is what benchmarks/suite/peers.py gives them in the suite.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from noria.benchmarks.measure.spread import spread_of
from noria.benchmarks.suite.beds import run_real_beds
from noria.benchmarks.suite.rounds import Entry, ToolRun, run_rounds
from noria.benchmarks.suite.tools import Tool, juicefs, rclone
from noria.benchmarks.suite.workloads import bulk, bulk_https, mixed, small

TRUSTING = "--ignore-checksum --s3-disable-checksum"
UNHEADED = "--s3-no-head --s3-no-check-bucket --azureblob-no-head-object"
WHOLE = "--s3-upload-cutoff 5G --multi-thread-streams 0"
UNSIGNED = "--s3-use-unsigned-payload true"
UNBUFFERED = "--buffer-size 0"

LARGE_SETS = (
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
TRIALS = {
    "bulk": (bulk, LARGE_SETS),
    "bulk-https": (bulk_https, LARGE_SETS),
    "small": (small, SMALL_SETS),
    "mixed": (mixed, MIXED_SETS),
}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="names of workloads, with commas between them")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.25, help="of each workload's size")
    arguments = parser.parse_args()
    for name in arguments.only.split(",") if arguments.only else TRIALS:
        make, sets = TRIALS[name]
        workload = make(arguments.share)
        print(workload.title, flush=True)
        tools = [tool_of(words) for words in sets]
        with run_real_beds([workload], tls=workload.tls) as [test_bed]:
            entries = [Entry(workload=workload, test_bed=test_bed, tool=tool) for tool in tools]
            runs = list(run_rounds(entries, rounds=arguments.rounds, say=lambda line: None))
            print_table(runs, tools)
    return 0


def tool_of(words: str) -> Tool:
    tool, *flags = words.split()
    return (rclone if tool == "rclone" else juicefs)(flags, name=words)


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
