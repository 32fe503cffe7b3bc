"""A whole move on this machine: real Azurite to real SeaweedFS, from the first byte to the proof.

    .venv/bin/python -m noria.benchmarks.studies.demo [--bytes 1000000000] [--serve]

Makes about 1 GB of small, medium and large blobs with metadata and awkward names, runs `noria copy`
as a user would, lets rclone compare both sides byte for byte, and says where the job directory is.
With --serve it runs nothing: it fills the source, writes down what leads to both stores, and keeps
them until Ctrl-C, for a move by hand.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noria.benchmarks.servers import Azurite, S3Server, find_tool, run_azurite, run_seaweedfs
from noria.benchmarks.servers.dataset import build_mixed, upload_azure

CONTAINER, BUCKET = "projects", "arrivals"
SEED = 20


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bytes", type=int, default=1_000_000_000)
    arguments.add_argument(
        "--serve", action="store_true", help="keep both stores, and move nothing"
    )
    arguments.add_argument(
        "--environment", type=Path, default=Path("build/demo.env"), help="file that --serve writes"
    )
    given = arguments.parse_args()
    if given.serve:
        serve(given.bytes, given.environment)
        return 0
    size = given.bytes
    job = Path(tempfile.mkdtemp(prefix="noria-demo-")) / "job"
    with run_azurite() as azurite, run_seaweedfs() as seaweedfs:
        seaweedfs.client().create_bucket(Bucket=BUCKET)
        fill(azurite, size)
        environment = {**os.environ, **azurite.env(), **seaweedfs.env()}
        source = f"az://{azurite.account}/{CONTAINER}"
        target = f"s3://{BUCKET}/2026"
        noria = Path(sys.executable).with_name("noria")
        command = [str(noria), "copy", source, target, "--job", str(job)]
        print("$", "noria", *command[1:], flush=True)
        ended = subprocess.run(command, env=environment, check=False)
        if ended.returncode == 0:
            compare(azurite, seaweedfs)
    print(f"job directory: {job} (manifest, receipts, reconcile.json)")
    print("metrics were served at http://127.0.0.1:9464/metrics while the job ran")
    return ended.returncode


def serve(size: int, environment: Path) -> None:
    """Keep both stores until Ctrl-C; `environment` is a file for the shell that moves."""
    with run_azurite() as azurite, run_seaweedfs() as seaweedfs:
        seaweedfs.client().create_bucket(Bucket=BUCKET)
        fill(azurite, size)
        variables = {**azurite.env(), **seaweedfs.env()}
        text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        environment.parent.mkdir(parents=True, exist_ok=True)
        # Whoever waits for the file finds all of it.
        draft = environment.with_name(f".{environment.name}")
        draft.write_text(text)
        draft.rename(environment)
        print(f"from az://{azurite.account}/{CONTAINER} to s3://{BUCKET}; in the other terminal:")
        print(f"$ . {environment}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            environment.unlink(missing_ok=True)


def fill(azurite: Azurite, size: int) -> None:
    started = time.monotonic()
    specs = build_mixed(size, SEED)
    upload_azure(specs, azurite.connection_string, CONTAINER, SEED)
    total = sum(spec.size for spec in specs)
    print(
        f"filled Azurite with {len(specs):,} blobs, {total / 1e6:,.0f} MB, "
        f"in {time.monotonic() - started:.0f} s",
        flush=True,
    )


def compare(azurite: Azurite, seaweedfs: S3Server) -> None:
    """Let another tool read both sides and compare every byte."""
    environment = {
        **os.environ,
        "RCLONE_CONFIG_SOURCE_TYPE": "azureblob",
        "RCLONE_CONFIG_SOURCE_CONNECTION_STRING": azurite.connection_string,
        # rclone would look for names of its own instead of those that end in a dot.
        "RCLONE_CONFIG_SOURCE_ENCODING": "None",
        "RCLONE_CONFIG_TARGET_ENCODING": "None",
        "RCLONE_CONFIG_TARGET_TYPE": "s3",
        "RCLONE_CONFIG_TARGET_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_TARGET_ENDPOINT": seaweedfs.endpoint,
        "RCLONE_CONFIG_TARGET_ACCESS_KEY_ID": seaweedfs.access_key,
        "RCLONE_CONFIG_TARGET_SECRET_ACCESS_KEY": seaweedfs.secret_key,
    }
    command = ["check", "--download", f"source:{CONTAINER}", f"target:{BUCKET}/2026"]
    print("$", "rclone", *command, flush=True)
    subprocess.run(
        [str(find_tool("rclone")), "--config", os.devnull, *command], env=environment, check=True
    )


if __name__ == "__main__":
    sys.exit(main())
