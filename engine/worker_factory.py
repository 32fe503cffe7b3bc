"""What one worker process needs, put together from the job directory and its own environment."""

from __future__ import annotations

from pathlib import Path

from noria.engine.config.jobfile import JobConfig, RunConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.worker_spec import Mode, WorkerSpec
from noria.manifests.counters import Gauge
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.model import Lease, Limits
from noria.workers.context import TransferContext, TransferOptions
from noria.workers.counters import CounterRegistry
from noria.workers.lease.lease import LeaseRun, WorkerResources
from noria.workers.lease.reread import RereadRun
from noria.workers.lease.runs import moving_run
from noria.workers.lease.worker import Worker
from noria.workers.runtime.buffers import BufferPool
from noria.workers.runtime.executors import Executors
from noria.workers.runtime.pacing import Pacer
from noria.workers.stores.paced import PacedStore, PacedTarget, RetryPolicy

RETRY_BASE_SECONDS = 0.2
RETRY_CAP_SECONDS = 20.0


def make_worker(order: WorkerSpec) -> Worker:
    """Open both stores with this process's credentials, and the job directory; returns a Worker.

    Raises ConfigurationError, AccessDenied or JobDirectoryError, each naming what this node lacks.
    """
    directory = open_shared(order)
    manifest = open_manifest(directory.manifest_path)
    run = order.config.run
    counters, buffers = CounterRegistry(), BufferPool(run.bytes_in_flight)
    executors = Executors(run.streams, run.small_requests if _over_network(order.config) else 0)
    context = make_context(order, run, counters, buffers)
    counters.gauge(Gauge.BYTES_IN_FLIGHT, read=lambda: float(buffers.bytes_in_flight))
    counters.gauge(Gauge.STREAMS, read=lambda: float(run.streams))

    resources = WorkerResources(
        directory=directory, manifest=manifest, context=context, executors=executors
    )

    def start_run(lease: Lease) -> LeaseRun:
        if order.mode is Mode.REREAD:
            return RereadRun(resources, lease, order.area)
        return moving_run(resources, lease)

    _watch(context.source)
    _watch(context.target)

    def set_limits(limits: Limits) -> None:
        context.source.pacer.set_ceiling(limits.source)
        context.target.pacer.set_ceiling(limits.target)
        executors.limit_streams(limits.streams)

    if order.limits is not None:
        set_limits(order.limits)
    return Worker(order.name, start_run, counters, set_limits, journal_seconds=run.journal_seconds)


def _watch(store: PacedStore) -> None:
    pacer, counters = store.pacer, store.counters
    counters.gauge(Gauge.CONCURRENCY, store.role, read=lambda: pacer.limit)
    counters.gauge(Gauge.IN_FLIGHT_SECONDS, store.role, read=lambda: pacer.in_flight_seconds)


def _over_network(config: JobConfig) -> bool:
    """True where no call to either store blocks but for its socket."""
    ends = (config.source.location.scheme, config.target.location.scheme)
    return Scheme.FILE not in ends


def open_shared(order: WorkerSpec) -> JobDirectory:
    """The job directory, checked to be the driver's own: every node has to see the same one."""
    path = Path(order.directory)
    if not JobDirectory.exists(path):
        raise JobDirectoryError(
            f"this node does not see the job directory {path}; put it on a file system that all "
            "nodes share"
        )
    directory = JobDirectory.open(path)
    if directory.job().get("id") != order.facts.job_id:
        raise JobDirectoryError(f"{path} on this node holds another job; share one file system")
    return directory


def make_context(
    order: WorkerSpec, run: RunConfig, counters: CounterRegistry, buffers: BufferPool
) -> TransferContext:
    facts, config = order.facts, order.config
    source = open_end(config.source, read_only=True, ask_crc64=run.source_crc64)
    target = open_end(config.target).with_capabilities(facts.capabilities)
    policy = RetryPolicy(
        seconds=run.retry_seconds,
        base_seconds=RETRY_BASE_SECONDS,
        cap_seconds=RETRY_CAP_SECONDS,
    )
    room = run.streams + run.small_requests
    return TransferContext(
        job_id=facts.job_id,
        source=PacedStore(inner=source, policy=policy, pacer=Pacer(room), counters=counters),
        target=PacedTarget(inner=target, policy=policy, pacer=Pacer(room), counters=counters),
        source_prefix=facts.source_prefix,
        target_prefix=facts.target_prefix,
        options=TransferOptions(
            chunk_bytes=config.plan.chunk_bytes,
            range_bytes=min(run.range_bytes, run.bytes_in_flight // 2),
            look_first=not facts.target_was_empty or not facts.if_absent,
        ),
        buffers=buffers,
    )
