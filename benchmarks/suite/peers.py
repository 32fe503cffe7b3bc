"""Who meets whom on which workload, with the flags that tuning.py found best, and as it comes.

rclone comes in two ways of its best flags where it matters. By default it sends a large object in
parts, each read into memory and hashed. Told to, it streams an object of up to 5 GiB in one request
and hashes nothing: by far its cheapest way, at the price of checksums and of a resume within the
object. s5cmd is not here: it cannot copy between two endpoints (benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.benchmarks.suite.openssl import lent_library, own_library
from noria.benchmarks.suite.tools import NOTHING, Tool, juicefs, msc, noria, rclone

NORIA = "Noria"
CLUSTER_NORIA = "Noria on a Ray cluster"
OLD_LIBRARY_NORIA = f"Noria, {own_library()}"
"""If the others speak https with a library that is lent."""
RCLONE_WHOLE = "rclone, one request"
RCLONE_PARTS = "rclone, in parts"
RCLONE = "rclone"
RCLONE_AS_IT_COMES = "rclone as it comes"
JUICEFS = "juicefs sync"
JUICEFS_AS_IT_COMES = "juicefs sync as it comes"
MSC = "msc sync"
MSC_AS_IT_COMES = "msc sync as it comes"

PEERS = ("rclone", "juicefs", "msc")
"""As `Tool.tool` has them."""
AS_THEY_COME = (RCLONE_AS_IT_COMES, JUICEFS_AS_IT_COMES, MSC_AS_IT_COMES)

TRUSTING = ("--ignore-checksum", "--s3-disable-checksum")
UNHEADED = ("--s3-no-head", "--s3-no-check-bucket", "--azureblob-no-head-object")
WHOLE = ("--s3-upload-cutoff", "5G", "--multi-thread-streams", "0")
LEAN = ("--s3-use-unsigned-payload", "true", "--buffer-size", "0")
EAGER = ("--buffer-size", "0", "--ignore-times")
SILENT = "MSC_SUPPRESS_PROGRESS_BAR=1"
UNCHECKED = 'target.request_checksum_calculation="when_required"'
ONE_PROCESS = ("MSC_NUM_PROCESSES=1", "MSC_NUM_THREADS_PER_PROCESS=32")

NO_RESUME = "no resume within an object"
NO_METADATA = "metadata and content type are not kept"
NO_STREAM = "every object through a temporary file; stops at the first error"

PROVEN_IF_STATED = (
    f"{NOTHING}, unless the source states an MD5: that goes along as Content-MD5, for the target "
    "to check"
)
PROVEN_BY_PARTS = "MD5 of each part as rclone has it in memory, for the target to check"
PROVEN_BY_RCLONE = (
    "the source's MD5, if it states one, against the target's; from 200 MiB on, in parts, "
    f"{PROVEN_BY_PARTS}"
)
PROVEN_BY_JUICEFS = f"{NOTHING}: a CRC32C of objects sent in one request is stored as metadata"
PROVEN_BY_MSC = "CRC32 of the temporary file, part by part, for the target to check"


def large_object_tools(*, threads: int = 10, transfers: int = 4) -> list[Tool]:
    """For objects of many parts. `threads` are juicefs's, `transfers` rclone's."""
    return [
        noria(name=NORIA),
        rclone(
            ["--transfers", str(transfers), *WHOLE, *TRUSTING, *UNHEADED, *LEAN],
            name=RCLONE_WHOLE,
            note=NO_RESUME,
            proves=PROVEN_IF_STATED,
        ),
        rclone(
            ["--transfers", str(transfers), *TRUSTING, *UNHEADED, *LEAN],
            name=RCLONE_PARTS,
            proves=PROVEN_BY_PARTS,
        ),
        juicefs(
            ["--threads", str(threads)], name=JUICEFS, note=NO_METADATA, proves=PROVEN_BY_JUICEFS
        ),
        msc([SILENT, UNCHECKED, *ONE_PROCESS], name=MSC, note=NO_STREAM, proves=NOTHING),
    ]


def small_object_tools(*, threads: int = 64, transfers: int = 64) -> list[Tool]:
    return [
        noria(name=NORIA),
        rclone(
            ["--transfers", str(transfers), "--checkers", "16", *TRUSTING, *UNHEADED, *EAGER],
            name=RCLONE,
            proves=PROVEN_IF_STATED,
        ),
        juicefs(
            ["--threads", str(threads)], name=JUICEFS, note=NO_METADATA, proves=PROVEN_BY_JUICEFS
        ),
        msc([SILENT, UNCHECKED, *ONE_PROCESS], name=MSC, note=NO_STREAM, proves=NOTHING),
    ]


def mixed_object_tools(*, threads: int = 32, transfers: int = 32) -> list[Tool]:
    return [
        noria(name=NORIA),
        rclone(
            ["--transfers", str(transfers), *WHOLE, *TRUSTING, *UNHEADED, *LEAN],
            name=RCLONE,
            note=NO_RESUME,
            proves=PROVEN_IF_STATED,
        ),
        juicefs(
            ["--threads", str(threads)], name=JUICEFS, note=NO_METADATA, proves=PROVEN_BY_JUICEFS
        ),
        msc([SILENT, UNCHECKED, *ONE_PROCESS], name=MSC, note=NO_STREAM, proves=NOTHING),
    ]


def tools_as_they_come() -> list[Tool]:
    """The peers without a flag, on any workload."""
    return [
        rclone([], name=RCLONE_AS_IT_COMES, proves=PROVEN_BY_RCLONE),
        juicefs([], name=JUICEFS_AS_IT_COMES, note=NO_METADATA, proves=PROVEN_BY_JUICEFS),
        msc([], name=MSC_AS_IT_COMES, note=NO_STREAM, proves=PROVEN_BY_MSC),
    ]


def cluster_noria(port: int) -> Tool:
    """Noria on a Ray cluster of this machine, which is started before each run."""
    return noria(name=CLUSTER_NORIA, cluster_port=port)


def with_old_library(tools: Sequence[Tool]) -> list[Tool]:
    """For https: the same, and Noria with the interpreter's own library if another one is lent."""
    if lent_library() is None:
        return list(tools)
    return [*tools, noria(name=OLD_LIBRARY_NORIA, own_library=True)]
