"""The source and the target of a job in one process, and what its transfers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from noria.manifests.counters import Counter
from noria.manifests.errors import DigestRefused, NoriaError, SourceChanged
from noria.manifests.model import ConflictPolicy, Guard, ObjectEntry
from noria.workers.carriage import AttributePolicy, Carriage, fit_attributes, lost
from noria.workers.counters import CounterRegistry
from noria.workers.runtime.buffers import BufferPool
from noria.workers.stated_md5 import StatedMd5
from noria.workers.stores.paced import PacedStore, PacedTarget, Stopped
from noria.workers.stores.protocol import ObjectHead
from noria.workers.tags import SourceTags

_NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """How one object is moved."""

    chunk_bytes: int
    """Bytes under one xxh3_128 digest."""
    range_bytes: int
    """Most bytes to request in one read; a larger part is streamed from several reads."""
    resend_limit: int = 4
    """How often bytes are read and sent again after a checksum was refused.

    After an unknown outcome, it is the least number of times.
    """
    look_first: bool = False
    """Look at the target before reading: it was not empty, or it does not honour If-None-Match."""
    source_md5: bool = True
    """Check the bytes of an object that is read at once against the MD5 that the source states."""
    policy: AttributePolicy = field(default_factory=AttributePolicy)
    """What becomes of attributes that the target cannot hold."""
    conflicts: ConflictPolicy = ConflictPolicy.REFUSE
    """What becomes of an entry for which another object is at the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferContext:
    """The source and the target of a job, and what a process shares between its transfers."""

    job_id: str
    source: PacedStore
    target: PacedTarget
    source_prefix: str
    target_prefix: str
    options: TransferOptions
    buffers: BufferPool
    tags: SourceTags = field(default_factory=SourceTags)
    md5s: StatedMd5 = field(default_factory=StatedMd5)
    is_unreceipted: Callable[[str | None, ObjectEntry], bool] = lambda txid, entry: False
    """True if an earlier pass wrote the object with this transfer id, and has no receipt of it."""
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
        """Return the same context for the transfers of one lease, which `stopping` ends."""
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
        """Return True if any attempt of this job at this entry wrote the object."""
        return (head.txid or "").startswith(f"{self.job_id}.{entry.object_id}.")

    def guard(self, replaces: str | None, *, of_upload: bool) -> Guard | None:
        """Return what keeps a write that replaces the object with this ETag from replacing others.

        None: it replaces nothing.
        """
        if replaces is None:
            return None
        known = self.target.capabilities
        honoured = known.if_match_complete if of_upload else known.if_match
        return Guard.IF_MATCH if honoured else Guard.LOOK

    def pin_source(self, entry: ObjectEntry) -> ObjectHead:
        """Return the source's head, pinned to the planned ETag.

        Raises SourceChanged if the size is not the planned one, and what read_range raises.
        """
        head = self.source.read_range(
            self.source_name(entry),
            offset=0,
            into=_NOTHING,
            etag=entry.etag,
            version_id=entry.version_id,
        )
        if head.size != entry.size:
            raise SourceChanged(
                "the source has another size than planned: plan again", key=entry.key
            )
        return head

    def carriage(self, entry: ObjectEntry, head: ObjectHead, policy: AttributePolicy) -> Carriage:
        """Return the source's attributes and tags, fitted to the target.

        Raises AttributesRefused if the policy refuses a change, and what reading tags raises.
        """
        tags, unreadable = self.tags.read(
            self.source,
            self.source_name(entry),
            head,
            policy.tags,
            version_id=entry.version_id,
        )
        attributes = replace(head.attributes, tags=tags)
        found = fit_attributes(attributes, self.target.provider, policy, key=entry.key)
        if unreadable is None:
            return found
        if policy.lossless:
            raise lost("its tags, which may not be read,", key=entry.key)
        return found.without_tags(unreadable)

    def check_stated_md5(self, entry: ObjectEntry, head: ObjectHead, read: memoryview) -> None:
        """Raise DigestRefused if the source states another MD5 than that of the bytes read."""
        if self.options.source_md5 and self.md5s.contradicts(head, read):
            self.counters.add(Counter.ERRORS, DigestRefused.cause)
            raise DigestRefused(
                "the bytes read do not have the MD5 that the source states: look which of the two "
                "is wrong; run.source_md5 = false moves them as they are",
                key=entry.key,
            )

    def check_stated_crc(self, entry: ObjectEntry, stated: int | None, read: int) -> None:
        """Raise DigestRefused if the source states another CRC64NVME than that of the bytes read.

        None states nothing.
        """
        if stated is not None and stated != read:
            self.counters.add(Counter.ERRORS, DigestRefused.cause)
            raise DigestRefused(
                "the bytes read do not have the checksum that the source states: read them again",
                key=entry.key,
            )


class Resends:
    """The budget for reading and sending the bytes of one object or part again.

    A store retries single requests. This is for a whole step, from its first byte.
    """

    def __init__(self, context: TransferContext) -> None:
        self._source, self._target = context.source, context.target
        self._limit = context.options.resend_limit
        self._done = 0
        self._refusals = 0
        self._failing_since: float | None = None

    def again(self, error: NoriaError) -> None:
        """Pause, then allow one more try. Raises `error` if the budget is spent.

        After refused checksums, the budget is resend_limit tries. After other errors (an unknown
        outcome) it is at least as many, and lasts at least as long as one request may fail. Raises
        Stopped if the lease is handed back.
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
        if spent and self._was_held():
            # A store was away meanwhile: that time and these tries say nothing about the object.
            self._done, self._failing_since, spent = 0, now, False
        if spent:
            raise error
        if self._target.stopping.is_set():
            raise Stopped
        self._done += 1
        self._target.counters.add(Counter.RETRIES, error.cause)
        self._target.back_off(self._done)

    def _was_held(self) -> bool:
        began = self._failing_since
        return began is not None and any(
            store.silences.was_held_after(began) for store in (self._source, self._target)
        )
