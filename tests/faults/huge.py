"""One blob of 20 GiB over two Ray nodes, one of which is killed half-way; run by hand.

    .venv/bin/python -m tests.faults.huge [--gib 20]

The source is the null source, which makes bytes up as they are asked for; the target is SeaweedFS,
which needs as much free disk. Between them and the workers stand proxies that count. Prints how
many parts the target was sent, which twice, and what was in flight at the kill; exit code 1 where a
part that the target had acknowledged, and that was journalled, came again.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from noria.benchmarks.null.stores import run_null_source
from noria.benchmarks.servers import run_seaweedfs
from tests.support.fault_proxy.proxy import run_fault_proxy
from tests.support.fault_proxy.rules import Operation
from tests.support.moves import NORIA, kill_one
from tests.support.nodes import new_token, node_pair, workers_of
from tests.support.processes import wait_until

GIB = 1 << 30
PART = 64 << 20
STREAMS = 2
"""Of each worker."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gib", type=int, default=20)
    size = parser.parse_args().gib * GIB
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(run_null_source([("huge.bin", size)]))
        seaweedfs = stack.enter_context(run_seaweedfs())
        target = stack.enter_context(run_fault_proxy(seaweedfs.endpoint))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="huge-")))
        bucket = f"huge-{uuid.uuid4().hex[:8]}"
        client = seaweedfs.client()
        client.create_bucket(Bucket=bucket)
        access = new_token()
        environment = {
            **os.environ,
            **source.env(),
            **seaweedfs.env(),
            "AWS_ENDPOINT_URL_S3": target.endpoint,
            **access,
        }
        job_file = folder / "huge.toml"
        job_file.write_text(
            f'[source]\nurl = "{source.url}"\n[target]\nurl = "s3://{bucket}"\n'
            f"[plan]\npart_bytes = {PART}\nsegment_bytes = {8 * PART}\n"
            f"[run]\nworkers = 2\nstreams = {STREAMS}\nheartbeat_timeout_seconds = 15\n"
        )
        nodes = stack.enter_context(node_pair(environment))
        process = stack.enter_context(
            subprocess.Popen(
                [NORIA, "run", job_file, "--address", nodes.address, "--json", "--quiet"],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        started = time.monotonic()
        half = lambda: target.written_bytes_so_far() > size // 2  # noqa: E731 - a condition
        wait_until(half, "half of the object", seconds=3600)
        assert workers_of(nodes.worker), "the second node works"
        kill_one(nodes.worker, "raylet/raylet")
        killed = time.monotonic()
        out, _ = process.communicate(timeout=3600)
        done = json.loads(out)
        sent = collections.Counter(
            exchange.request.query["partNumber"]
            for exchange in target.seen(Operation.PART)
            if "huge.bin" in exchange.request.path and exchange.request_bytes
        )
        again = sorted(int(number) for number, times in sent.items() if times > 1)
        head = client.head_object(Bucket=bucket, Key="huge.bin", ChecksumMode="ENABLED")
        client.close()
    parts = -(-size // PART)
    seconds = (killed - started, time.monotonic() - started)
    print(f"{size / GIB:.0f} GiB in {parts} parts; killed after {seconds[0]:.0f} s")
    print(f"ended after {seconds[1]:.0f} s, exit {process.returncode}: {done['outcomes']}")
    print(f"parts sent: {len(sent)}; sent again: {len(again)} {again}")
    print(f"the target holds {head['ContentLength']} bytes, CRC64NVME {head['ChecksumCRC64NVME']}")
    # In flight at the dead worker, and acknowledged within one journal interval of a second.
    allowed = 2 * STREAMS
    whole = process.returncode == 0 and len(sent) == parts and head["ContentLength"] == size
    return 0 if whole and len(again) <= allowed else 1


if __name__ == "__main__":
    sys.exit(main())
