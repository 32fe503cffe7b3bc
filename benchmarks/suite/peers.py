"""Who meets whom on which workload, with the flags that tuning.py found best.

rclone comes twice where it matters. By default it sends a large object in parts, each read into
memory and hashed. Told to, it streams an object of up to 5 GiB in one request and hashes nothing:
by far its cheapest way, at the price of checksums and of a resume within the object.
"""

from __future__ import annotations

from noria.benchmarks.suite.tools import Tool, juicefs, noria, rclone

NORIA = "Noria"
CLUSTER_NORIA = "Noria on a Ray cluster"
RCLONE_WHOLE = "rclone, one request"
RCLONE_PARTS = "rclone, in parts"
RCLONE = "rclone"
JUICEFS = "juicefs sync"

TRUSTING = ("--ignore-checksum", "--s3-disable-checksum")
UNHEADED = ("--s3-no-head", "--s3-no-check-bucket", "--azureblob-no-head-object")
WHOLE = ("--s3-upload-cutoff", "5G", "--multi-thread-streams", "0")
LEAN = ("--s3-use-unsigned-payload", "true", "--buffer-size", "0")
EAGER = ("--buffer-size", "0", "--ignore-times")

NO_CHECKSUM = "no checksum goes out with the bytes; no resume within an object"
NO_METADATA = "no checksum goes out with the bytes; metadata and content type are not kept"


def large_object_tools() -> list[Tool]:
    return [
        noria(name=NORIA),
        rclone(
            ["--transfers", "4", *WHOLE, *TRUSTING, *UNHEADED, *LEAN],
            name=RCLONE_WHOLE,
            note=NO_CHECKSUM,
        ),
        rclone(["--transfers", "4", *TRUSTING, *UNHEADED, *LEAN], name=RCLONE_PARTS),
        juicefs(["--threads", "10"], name=JUICEFS, note=NO_METADATA),
    ]


def small_object_tools(cluster_port: int) -> list[Tool]:
    return [
        noria(name=NORIA),
        noria(name=CLUSTER_NORIA, cluster_port=cluster_port),
        rclone(
            ["--transfers", "64", "--checkers", "16", *TRUSTING, *UNHEADED, *EAGER],
            name=RCLONE,
            note=NO_CHECKSUM,
        ),
        juicefs(["--threads", "64"], name=JUICEFS, note=NO_METADATA),
    ]


def mixed_object_tools() -> list[Tool]:
    return [
        noria(name=NORIA),
        rclone(
            ["--transfers", "32", *WHOLE, *TRUSTING, *UNHEADED, *LEAN],
            name=RCLONE,
            note=NO_CHECKSUM,
        ),
        juicefs(["--threads", "32"], name=JUICEFS, note=NO_METADATA),
    ]
