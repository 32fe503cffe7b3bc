"""A job that has moved everything, from folder to folder and without a cluster, to be damaged."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noria.engine import job
from noria.engine.config.jobfile import JobConfig
from noria.engine.config.reading import job_config
from noria.engine.planning import Prepared, open_prepared
from noria.engine.worker_factory import make_context
from noria.manifests.job.seals import seal
from noria.manifests.model import Lease, LeaseEnd, LeaseKind, ShardKind, ShardPlan
from noria.workers.context import TransferContext
from noria.workers.counters import CounterRegistry
from noria.workers.lease.journal import LeaseJournals
from noria.workers.lease.lease import WorkerResources
from noria.workers.lease.runs import moving_run
from noria.workers.runtime.bandwidth import Bandwidth
from noria.workers.runtime.buffers import BufferPool
from noria.workers.runtime.executors import Executor, make_executor
from noria.workers.runtime.hold import Hold

KIB = 1024
OBJECTS: Mapping[str, bytes] = {
    "a": b"first",
    "dir/é.txt": b"",
    "dir/secret-name": b"x" * (64 * KIB),
    "huge": bytes(range(256)) * KIB,
    "z": b"last" * 100,
}
"""`huge` is a shard of its own, of four parts."""
BOOKKEEPING = ("driver.lock", "present.lock", "epochs/", "pseudonyms.key")
"""What a command that fails may add: it says who held the job, and nothing of its objects."""


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A folder with `source`, `target` and `job`. Copies share the source and the target."""

    root: Path

    def copy(self, root: Path) -> Path:
        """A job directory to damage."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.root, root)
        return root

    @contextlib.contextmanager
    def live_lease(self, name: str, data: bytes) -> Iterator[Path]:
        """The job directory with other bytes in one of its files, which has its own again after."""
        path = self.root / name
        whole = path.read_bytes()
        path.write_bytes(data)
        try:
            yield self.root
        finally:
            path.write_bytes(whole)

    def names(self, start: str = "") -> list[str]:
        return [name for name in sorted(contents(self.root)) if name.startswith(start)]


def contents(root: Path) -> dict[str, str]:
    """What a job directory holds: the digest of each file."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
        and not (name := path.relative_to(root).as_posix()).startswith(BOOKKEEPING)
    }


def config_of(folder: Path, **sections: Mapping[str, Any]) -> JobConfig:
    values = {
        "source": {"url": f"file://{folder / 'source'}"},
        "target": {"url": f"file://{folder / 'target'}"},
        "plan": {
            "part_bytes": 64 * KIB,
            "chunk_bytes": 64 * KIB,
            "segment_bytes": 128 * KIB,
            "shard_objects": 2,
        },
        "run": {"metrics_address": "off"},
        **sections,
    }
    return job_config(values, "a test")


def write_source(folder: Path) -> None:
    for key, body in OBJECTS.items():
        path = folder / "source" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (folder / "target").mkdir(exist_ok=True)


def finish_job(folder: Path) -> FinishedJob:
    """Plan it, and run every lease in this process."""
    finished = run_leases(folder)
    assert job.reconcile_job(folder / "job").reconciled
    return finished


def run_leases(folder: Path) -> FinishedJob:
    """As finish_job(), whatever the end is like."""
    write_source(folder)
    job.plan(config_of(folder), folder / "job")
    prepared = open_prepared(folder / "job")
    spec = job.worker_spec(prepared, prepared.config.run)
    buffers = BufferPool(spec.settings.bytes_in_flight)
    context = make_context(spec, CounterRegistry(), buffers, Hold(), Bandwidth())
    with (
        contextlib.closing(make_executor(4, over_network=False)) as executor,
        prepared.directory.hold() as hold,
    ):
        attempt = hold.first_attempt
        for shard in prepared.manifest.shards():
            for kind, first, end in _spans(shard):
                lease = Lease(
                    shard=shard.shard,
                    kind=kind,
                    first=first,
                    end=end,
                    attempt=attempt,
                    generation=0,
                )
                _run_lease(prepared, context, executor, lease)
                attempt += 1
    return FinishedJob(folder / "job")


def _spans(shard: ShardPlan) -> list[tuple[LeaseKind, int, int]]:
    if shard.kind is ShardKind.OBJECTS:
        return [(LeaseKind.OBJECTS, 0, shard.units)]
    middle = shard.units // 2
    return [
        (LeaseKind.PARTS, 0, middle),
        (LeaseKind.PARTS, middle, shard.units),
        (LeaseKind.ASSEMBLE, 0, 0),
    ]


def _run_lease(
    prepared: Prepared, context: TransferContext, executor: Executor, lease: Lease
) -> None:
    resources = WorkerResources(
        directory=prepared.directory,
        manifest=prepared.manifest,
        context=context,
        executor=executor,
        journals=LeaseJournals(prepared.directory),
    )
    result = moving_run(resources, lease).run()
    assert result.how is LeaseEnd.FINISHED, (result.cause, result.message)
    seal(prepared.directory, result)
