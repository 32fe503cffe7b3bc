"""Both ends of a job as a process holds them, and what its transfers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from noria.manifests.counters import Counter
from noria.manifests.errors import DigestRefused, NoriaError, SourceChanged
from noria.manifests.model import ObjectEntry
from noria.workers.counters import CounterRegistry
from noria.workers.runtime.buffers import BufferPool
from noria.workers.stores.paced import PacedStore, PacedTarget, Stopped
from noria.workers.stores.protocol import ObjectHead

_NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """How one object is moved."""

    chunk_bytes: int
    """Bytes under one xxh3_128 digest."""
    range_bytes: int
    """Most bytes asked for in one read; a larger part is streamed from several."""
    resend_limit: int = 4
    """How often bytes are read and sent again after a checksum was refused; after an unknown
    outcome, how often at least."""
    look_first: bool = False
    """Look at the target before reading: it was not empty, or it cannot write only-if-absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferContext:
    """Both ends of a job and what a process shares between its transfers."""

    job_id: str
    source: PacedStore
    target: PacedTarget
    source_prefix: str
    target_prefix: str
    options: TransferOptions
    buffers: BufferPool
    on_left_open: Callable[[], None] = lambda: None
    """Called if an upload that is no longer needed could not be aborted."""

    @property
    def counters(self) -> CounterRegistry:
        return self.target.counters

    @property
    def stopping(self) -> threading.Event:
        return self.target.stopping

    def for_lease(
        self, stopping: threading.Event, on_left_open: Callable[[], None]
    ) -> TransferContext:
        """The same for the transfers of one lease, which `stopping` ends."""
        return replace(
            self,
            source=self.source.stopped_by(stopping),
            target=self.target.stopped_by(stopping),
            on_left_open=on_left_open,
        )

    def source_name(self, entry: ObjectEntry) -> str:
        return self.source_prefix + entry.key

    def target_name(self, entry: ObjectEntry) -> str:
        return self.target_prefix + entry.target_key

    def transfer_id(self, entry: ObjectEntry, attempt: int) -> str:
        return f"{self.job_id}.{entry.object_id}.{attempt}"

    def is_ours(self, head: ObjectHead, entry: ObjectEntry) -> bool:
        """True if some attempt of this job at this entry wrote the object."""
        return (head.txid or "").startswith(f"{self.job_id}.{entry.object_id}.")

    def pin_source(self, entry: ObjectEntry) -> ObjectHead:
        """The source's head, pinned to the planned ETag. Raises SourceChanged for another size."""
        head = self.source.read_range(
            self.source_name(entry),
            offset=0,
            into=_NOTHING,
            etag=entry.etag,
            version_id=entry.version_id,
        )
        if head.size != entry.size:
            raise SourceChanged("the source has another size than planned", key=entry.key)
        return head

    def refuse_flipped(self, entry: ObjectEntry, stated: int | None, read: int) -> None:
        """Raises DigestRefused if the source states another CRC64NVME than that of what was
        read."""
        if stated is not None and stated != read:
            self.counters.add(Counter.ERRORS, DigestRefused.cause)
            raise DigestRefused("the bytes read are not those the source states", key=entry.key)


class Resends:
    """How often, and for how long, the bytes of one object or part are read and sent again.

    A request alone is tried again by its store; here a whole step is, from its first byte.
    """

    def __init__(self, context: TransferContext) -> None:
        self._target = context.target
        self._limit = context.options.resend_limit
        self._done = 0
        self._refusals = 0
        self._failing_since: float | None = None

    def again(self, error: NoriaError) -> None:
        """Allow one more, after a little wait; raises the error if the last one is spent.

        A refused checksum has resend_limit more. What an outage brings (an unknown outcome) has as
        many at least, and more until it has lasted as long as one request may fail. Raises Stopped
        when the lease is handed back.
        """
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, DigestRefused):
            self._refusals += 1
            spent = self._refusals > self._limit
        else:
            lasting = now - self._failing_since < (self._target.policy.seconds or 0.0)
            spent = self._done >= self._limit and not lasting
        if spent:
            raise error
        if self._target.stopping.is_set():
            raise Stopped
        self._done += 1
        self._target.counters.add(Counter.RETRIES, error.cause)
        self._target.back_off(self._done)
