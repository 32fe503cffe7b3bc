"""What runs in a worker process: it says which build it is, is told what to do, and exchanges."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from noria.engine.cluster.child import Channel, print_to, spare_start_up
from noria.engine.cluster.protocol import Build, DrainWorker, Instruction
from noria.engine.scheduler.events import Grant, Revoke, Split
from noria.manifests.access import open_new
from noria.manifests.errors import NoriaError
from noria.manifests.model import BandwidthShare, Limits, RequestShare, WorkerReport

if TYPE_CHECKING:
    from noria.engine.worker_spec import WorkerSpec
    from noria.workers.lease.worker import Worker

LEFT_MOST: Final = 8
"""Workers that are no more, until their memory is looked for."""


def main(channel: Channel) -> None:
    """Serve a driver until it is gone, or ends this process."""
    spare_start_up()
    channel.send(Build.own())
    # The driver hears the above while this is loaded, which takes a third of a second.
    from noria.engine.worker_factory import make_worker
    from noria.workers.http.resting import RestingConnections

    resting, garbage = RestingConnections(), Garbage()
    with contextlib.suppress(EOFError, OSError):
        spec: WorkerSpec | None = channel.receive()
        while spec is not None:
            _log_to(spec)
            try:
                worker = make_worker(spec, resting=resting)
            except NoriaError as error:
                channel.send(error)
                return
            channel.send(None)
            spec = _serve(channel, worker)
            del worker
            garbage.let_go()


class Garbage:
    """Gives back the memory of workers that are no more: what they had refers to itself in circles.

    A worker of a small dataset leaves 4 MB, and to look for it takes as long as ten objects.
    """

    def __init__(self) -> None:
        self._left = 0
        """Workers since the last look."""
        self._is_frozen = False

    def let_go(self) -> None:
        """One more is no more. What all workers need is looked through once."""
        self._left += 1
        if self._is_frozen and self._left < LEFT_MOST:
            return
        self._left = 0
        gc.collect()
        if not self._is_frozen:
            self._is_frozen = True
            gc.freeze()


def _serve(channel: Channel, worker: Worker) -> WorkerSpec | None:
    """Exchange until this process is told to be another worker; None: it has leases, and cannot.

    Raises EOFError or OSError if the driver is gone.
    """
    while isinstance(message := channel.receive(), tuple):
        instructions, wait_seconds = message
        channel.send(exchange(worker, instructions, wait_seconds))
    spec: WorkerSpec = message
    return spec if worker.close() else None


def exchange(
    worker: Worker, instructions: tuple[Instruction, ...], wait_seconds: float
) -> WorkerReport:
    """One exchange: carry the instructions out, then report; waits for news as long as told."""
    worker.hear()
    for instruction in instructions:
        match instruction:
            case Grant(lease=lease):
                worker.grant(lease)
            case Revoke(shard=shard, first=first, attempt=attempt):
                worker.revoke(shard, first, attempt)
            case Split(shard=shard, first=first, attempt=attempt, end=end):
                worker.split(shard, first, attempt, end)
            case Limits():
                worker.limit(instruction)
            case BandwidthShare():
                worker.share_bandwidth(instruction)
            case RequestShare():
                worker.share_requests(instruction)
            case DrainWorker():
                worker.drain()
    return worker.report(wait_seconds)


def gather_log(spec: WorkerSpec, host: str) -> None:
    """Keep what `noria` says in this process, and how it crashes, in the job's log of its host.

    For a process that prints to where its cluster wants it. If the job's log cannot be written to,
    all goes there.
    """
    path = Path(spec.directory) / "log" / f"workers-{host}.txt"
    try:
        file = open(path, "a", encoding="utf-8", errors="backslashreplace", opener=open_new)  # noqa: SIM115 - it stays open
    except OSError:
        return
    handler = logging.StreamHandler(file)
    handler.setFormatter(_formatter(spec))
    logging.getLogger("noria").addHandler(handler)
    faulthandler.enable(file)


def _log_to(spec: WorkerSpec) -> None:
    """From here on this process prints to the job's log, shared by all workers."""
    directory = Path(spec.directory) / "log"
    if os.path.isdir(directory):
        with contextlib.suppress(OSError):
            print_to(directory / "workers.txt")
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(spec))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    faulthandler.enable()


def _formatter(spec: WorkerSpec) -> logging.Formatter:
    """Times are UTC, as in the driver's log: hosts may stand in several zones."""
    formatter = logging.Formatter(
        f"%(asctime)s worker {spec.name}: %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ"
    )
    formatter.converter = time.gmtime
    return formatter
