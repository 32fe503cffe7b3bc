"""What runs in a worker process: it says which build it is, is told what to do, and exchanges."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from noria.engine.cluster.child import Channel, print_to, spare_start_up
from noria.engine.cluster.protocol import Build, DrainWorker, Instruction
from noria.engine.scheduler.events import Grant, Revoke, Split
from noria.manifests.errors import NoriaError
from noria.manifests.model import Limits, WorkerReport

if TYPE_CHECKING:
    from noria.engine.worker_spec import WorkerSpec
    from noria.workers.lease.worker import Worker


def main(channel: Channel) -> None:
    """Serve a driver until it is gone, or ends this process."""
    spare_start_up()
    channel.send(Build.own())
    # The driver hears the above while this is loaded, which takes a third of a second.
    from noria.engine.worker_factory import make_worker

    with contextlib.suppress(EOFError, OSError):
        spec: WorkerSpec = channel.receive()
        _log_to(spec)
        try:
            worker = make_worker(spec)
        except NoriaError as error:
            channel.send(error)
            return
        channel.send(socket.gethostname())
        while True:
            instructions, wait_seconds = channel.receive()
            channel.send(exchange(worker, instructions, wait_seconds))


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
            case DrainWorker():
                worker.drain()
    return worker.report(wait_seconds)


def _log_to(spec: WorkerSpec) -> None:
    """From here on this process prints to the job's log, shared by all workers."""
    directory = Path(spec.directory) / "log"
    if os.path.isdir(directory):
        with contextlib.suppress(OSError):
            print_to(directory / "workers.txt")
    form = f"%(asctime)s worker {spec.name}: %(name)s: %(message)s"
    logging.basicConfig(level=logging.WARNING, format=form)
    faulthandler.enable()
