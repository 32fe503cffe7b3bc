"""What one worker process needs, put together from the job directory and its own environment."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from noria.engine.config.locations import Scheme
from noria.engine.config.stores import LeastPace, open_end
from noria.engine.worker_spec import JobFacts, Mode, WorkerEnd, WorkerSettings, WorkerSpec
from noria.manifests.counters import Counter, Gauge, Histogram, StoreRole
from noria.manifests.errors import AccessDenied, JobDirectoryError, Retryable
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.read_backs import ReadBacks
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.model import Lease, Limits
from noria.manifests.passes.unreceipted import Unreceipted
from noria.workers.carriage import AttributePolicy
from noria.workers.context import TransferContext, TransferOptions
from noria.workers.counters import CounterRegistry
from noria.workers.http.connection import LINGER_NOT
from noria.workers.http.resting import RESTING_MOST, RestingConnections
from noria.workers.lease.journal import LeaseJournals
from noria.workers.lease.lease import LeaseRun, WorkerResources
from noria.workers.lease.reread import RereadRun
from noria.workers.lease.runs import moving_run
from noria.workers.lease.worker import Worker
from noria.workers.runtime.bandwidth import Bandwidth
from noria.workers.runtime.buffers import BufferPool
from noria.workers.runtime.executors import Executor, make_executor
from noria.workers.runtime.hold import Hold
from noria.workers.runtime.pacing import Pacer
from noria.workers.runtime.places import Places
from noria.workers.runtime.silence import Silences
from noria.workers.stores.paced import PacedStore, PacedTarget, RetryPolicy

THREADS_MAX = 32
"""Transfers in flight where a store is files: each needs a thread."""
FILES_BESIDE = 128 + RESTING_MOST
"""File descriptors that are left for everything but the connections of transfers."""
M_ARENA_MAX = -8
"""In malloc.h."""
HEAPS = 2
RETRY_BASE_SECONDS = 0.2
RETRY_CAP_SECONDS = 20.0
EXIT_UNHEARD = 75
"""Of a worker process that ended because its driver was not heard (EX_TEMPFAIL)."""


def make_worker(
    spec: WorkerSpec, *, look: bool = False, resting: RestingConnections | None = None
) -> Worker:
    """Open both stores with this process's credentials, and the job directory; returns a Worker.

    `look`: see both stores first, on a host where nobody has yet. `resting` has the connections of
    workers that this process was before, and gets those of this one. Raises ConfigurationError,
    AccessDenied, ClockSkewed or JobDirectoryError, each naming what this node lacks.
    """
    bound_heap()
    directory = open_shared(spec)
    manifest = open_manifest(directory.manifest_path)
    settings = spec.settings
    counters, buffers = CounterRegistry(), BufferPool(settings.bytes_in_flight)
    executor = _make_executor(spec)
    hold = Hold(settings.hold_seconds)
    bandwidth = Bandwidth(spec.bandwidth, hold=hold)
    requests = _requests(spec, hold)
    context = make_context(spec, counters, buffers, hold, bandwidth, requests, resting=resting)
    if look:
        _look(spec, context)
    counters.gauge(Gauge.HELD_SECONDS, read=lambda: bandwidth.held_seconds)
    _count_transfers(counters, executor.places, buffers)
    _count_process(counters)
    _watch(context.source)
    _watch(context.target)
    journals = LeaseJournals(
        directory, lambda seconds: counters.observe(Histogram.JOURNAL_SECONDS, seconds=seconds)
    )
    resources = WorkerResources(
        directory=directory,
        manifest=manifest,
        context=context,
        executor=executor,
        journals=journals,
    )
    read_backs = ReadBacks(directory, spec.area) if spec.mode is Mode.REREAD else None

    def start_run(lease: Lease) -> LeaseRun:
        if read_backs is None:
            return moving_run(resources, lease)
        return RereadRun(resources, lease, read_backs)

    def set_limits(limits: Limits) -> None:
        context.source.pacer.set_ceiling(limits.source)
        context.target.pacer.set_ceiling(limits.target)
        executor.set_limit(limits.transfers)

    def let_go() -> None:
        journals.close()
        context.source.close()
        context.target.close()

    if spec.limits is not None:
        set_limits(spec.limits)
    return Worker(
        spec.name,
        start_run,
        counters,
        executor,
        set_limits,
        flush_journals=journals.flush,
        journal_seconds=settings.journal_seconds,
        hold=hold,
        end_process=end_unheard,
        bandwidth=bandwidth,
        requests=requests,
        let_go=let_go,
    )


def _requests(spec: WorkerSpec, hold: Hold) -> dict[str, Bandwidth]:
    """What may be begun at each store, by its role."""
    return {
        StoreRole.SOURCE: Bandwidth(spec.source_requests, hold=hold),
        StoreRole.TARGET: Bandwidth(spec.target_requests, hold=hold),
    }


def _make_executor(spec: WorkerSpec) -> Executor:
    over_network = _over_network(spec)
    room = _room(spec.settings.streams, over_network)
    return make_executor(room, over_network=over_network)


def _count_transfers(counters: CounterRegistry, places: Places, buffers: BufferPool) -> None:
    counters.gauge(Gauge.BYTES_IN_FLIGHT, read=lambda: float(buffers.bytes_in_flight))
    counters.gauge(Gauge.TRANSFERS, read=lambda: float(places.limit))
    counters.gauge(Gauge.TRANSFER_SECONDS, read=lambda: places.seconds)
    counters.gauge(Gauge.TRANSFERS_ENDED, read=lambda: float(places.ended))


def _count_process(counters: CounterRegistry) -> None:
    """What this process takes: time, CPU, memory."""
    began = time.monotonic()
    counters.gauge(Gauge.WORKER_SECONDS, read=lambda: time.monotonic() - began)
    counters.gauge(Gauge.CPU_SECONDS, read=time.process_time)
    counters.gauge(Gauge.MEMORY_BYTES, read=_resident_bytes)


def _resident_bytes() -> float:
    """Memory of this process, by Linux; elsewhere the most that it ever had."""
    with contextlib.suppress(OSError), open("/proc/self/statm", "rb") as file:
        return float(int(file.read().split()[1]) * resource.getpagesize())
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def bound_heap() -> None:
    """Keep the C library from giving each thread a heap of its own.

    It makes eight for each processor, and every one keeps what the largest lease took of it.
    """
    with contextlib.suppress(AttributeError):  # a C library without the call
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


def _look(spec: WorkerSpec, context: TransferContext) -> None:
    """Look at both stores at once: the way there, the credentials, and this machine's clock.

    A store that does not answer is waited for later, as one that answers nobody. Who may read the
    source need not be allowed to list it: a refusal there tells nothing.
    """

    def see_source() -> None:
        with contextlib.suppress(Retryable, AccessDenied):
            context.source.check_access(spec.facts.source_prefix)

    def see_target() -> None:
        with contextlib.suppress(Retryable):
            context.target.check_access(spec.facts.target_prefix)

    with ThreadPoolExecutor(2) as threads:
        for looked in [threads.submit(see_source), threads.submit(see_target)]:
            looked.result()


def end_unheard() -> None:
    """End at once, with all that is in flight; a lease's journal is whole at any moment.

    What was handed to the network goes with it. The system would send it again and again after the
    end of this process, and a whole request among it would come through once the network is back.
    """
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    os._exit(EXIT_UNHEARD)


def _watch(store: PacedStore) -> None:
    pacer, silences, counters = store.pacer, store.silences, store.counters
    counters.counted(Counter.CONNECTIONS, store.role, read=store.connections)
    counters.gauge(Gauge.SILENT_SECONDS, store.role, read=lambda: silences.seconds)
    counters.gauge(Gauge.CONCURRENCY, store.role, read=lambda: pacer.limit)
    counters.gauge(Gauge.IN_FLIGHT_SECONDS, store.role, read=lambda: pacer.in_flight_seconds)


def _room(streams: int, over_network: bool) -> int:
    """Most transfers for which this process has threads, or two connections each."""
    if not over_network:
        return min(streams, THREADS_MAX)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * streams + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(1, min(streams, (soft - FILES_BESIDE) // 2))
    return streams


def _over_network(spec: WorkerSpec) -> bool:
    """True if calls to either store block on nothing but their socket."""
    ends = (spec.source.location.scheme, spec.target.location.scheme)
    return Scheme.FILE not in ends


def open_shared(spec: WorkerSpec) -> JobDirectory:
    """The job directory, checked to be the driver's own: every node has to see the same one."""
    path = Path(spec.directory)
    if not JobDirectory.exists(path):
        raise JobDirectoryError(
            f"this node does not see the job directory {path}; put it on a file system that all "
            "nodes share"
        )
    directory = JobDirectory.open(path)
    if directory.job().get("id") != spec.facts.job_id:
        raise JobDirectoryError(f"{path} on this node holds another job; share one file system")
    return directory


def make_context(
    spec: WorkerSpec,
    counters: CounterRegistry,
    buffers: BufferPool,
    hold: Hold,
    bandwidth: Bandwidth,
    requests: Mapping[str, Bandwidth] | None = None,
    *,
    resting: RestingConnections | None = None,
) -> TransferContext:
    """`requests`: what may be begun at each store, by its role. None: any number."""
    requests = requests or {role: Bandwidth() for role in StoreRole}
    facts, settings = spec.facts, spec.settings
    pace = LeastPace(idle_seconds=settings.idle_seconds, least_rate=settings.least_rate)
    opened = partial(open_end, pace=pace, resting=resting)
    source = opened(spec.source, read_only=True, ask_crc64=settings.source_crc64)
    target = opened(spec.target).with_capabilities(facts.capabilities)
    policy = RetryPolicy(
        seconds=settings.retry_seconds,
        base_seconds=RETRY_BASE_SECONDS,
        cap_seconds=RETRY_CAP_SECONDS,
        outage_seconds=settings.outage_seconds,
    )
    return TransferContext(
        job_id=facts.job_id,
        source=PacedStore(
            inner=source,
            policy=policy,
            pacer=Pacer(settings.streams),
            silences=Silences(StoreRole.SOURCE),
            counters=counters,
            hold=hold,
            bandwidth=bandwidth,
            requests=requests[StoreRole.SOURCE],
            denied_alone=True,
        ),
        target=PacedTarget(
            inner=target,
            policy=policy,
            pacer=Pacer(settings.streams),
            silences=Silences(StoreRole.TARGET),
            counters=counters,
            hold=hold,
            bandwidth=bandwidth,
            requests=requests[StoreRole.TARGET],
        ),
        source_prefix=facts.source_prefix,
        target_prefix=facts.target_prefix,
        options=TransferOptions(
            chunk_bytes=settings.chunk_bytes,
            range_bytes=min(settings.range_bytes, settings.bytes_in_flight // 2),
            look_first=not facts.target_was_empty or not facts.if_absent,
            source_md5=settings.source_md5,
            conflicts=settings.conflicts,
            policy=attribute_policy(settings, spec.target, facts),
        ),
        buffers=buffers,
        is_unreceipted=Unreceipted(Path(spec.directory)).has,
    )


def attribute_policy(
    settings: WorkerSettings, target: WorkerEnd, facts: JobFacts
) -> AttributePolicy:
    """What the job file says of attributes that the target cannot hold."""
    return AttributePolicy(
        metadata=settings.unfit_metadata,
        headers=settings.unfit_headers,
        tags=settings.unfit_tags,
        others=settings.unfit_others,
        lossless=settings.representable == "all",
        class_is_chosen=target.storage_class is not None,
        encryption_is_chosen=target.encryption is not None,
        retention_is_carried=target.retention == "carry",
        target_drops_tags=facts.drops_tags,
    )
