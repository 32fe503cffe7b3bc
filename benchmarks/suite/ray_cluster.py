"""A Ray cluster on this machine that runs before the job does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from noria.benchmarks.measure.accounting import Account

READY_SECONDS = 60.0
REST_SECONDS = 1.0
REST_SHARE = 0.1
"""Of one core, over REST_SECONDS: what a cluster without work stays below."""


def start_cluster(
    account: Account, port: int, environment: Mapping[str, str], folder: Path
) -> None:
    """A cluster of this machine's CPUs that listens on `port`; returns when it is at rest.

    Its workers take their environment, with the credentials, from here. It ends with the account.
    Raises RuntimeError.
    """
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head"),
        *("--node-ip-address=127.0.0.1", f"--port={port}"),
        *("--include-dashboard=false", "--disable-usage-stats"),
        f"--num-cpus={os.cpu_count() or 1}",
    ]
    with (folder / "ray-start.log").open("wb") as log:
        started = account.launch(
            command, environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        account.look()
        if started.wait() != 0:
            raise RuntimeError((folder / "ray-start.log").read_text()[-2000:])
    _wait_for_rest(account)


def _wait_for_rest(account: Account) -> None:
    """Until the cluster's processes have done what they do at their start."""
    deadline = time.monotonic() + READY_SECONDS
    used = account.cpu_seconds()
    while time.monotonic() < deadline:
        time.sleep(REST_SECONDS)
        before, used = used, account.cpu_seconds()
        if used - before < REST_SHARE * REST_SECONDS:
            return
    raise RuntimeError(f"the cluster is not at rest after {READY_SECONDS:.0f} s")
