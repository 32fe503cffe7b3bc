"""Both ends of a job as a process holds them, and the one retry layer for requests to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from noria.manifests.counters import Counter, Histogram
from noria.manifests.errors import (
    AccessDenied,
    DigestRefused,
    NoriaError,
    OutcomeUnknown,
    Retryable,
    SourceUnreadable,
    Throttled,
    UploadLost,
)
from noria.manifests.model import ObjectEntry
from noria.workers.counters import CounterRegistry
from noria.workers.runtime.buffers import BufferPool
from noria.workers.runtime.greenlets import pause
from noria.workers.runtime.pacing import Pacer
from noria.workers.stores.protocol import ObjectHead, SourceStore, TargetStore

Response = TypeVar("Response")


class Stopped(Exception):
    """The lease is being handed back: nothing is final, everything may be done again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """How one object is moved."""

    chunk_bytes: int
    """Bytes under one xxh3_128 digest."""
    range_bytes: int
    """Most bytes asked for in one read; a larger part is streamed from several."""
    retry_seconds: float = 300.0
    """A step that keeps failing is given up after this long; 0 allows one try."""
    retry_base_seconds: float = 0.2
    retry_cap_seconds: float = 20.0
    resend_limit: int = 4
    """How often bytes are read and sent again after a checksum was refused; after an unknown
    outcome, how often at least."""
    look_first: bool = False
    """Look at the target before reading: it was not empty, or it cannot write only-if-absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferContext:
    """Both ends of a job and what a process shares between its transfers."""

    job_id: str
    source: SourceStore
    target: TargetStore
    source_prefix: str
    target_prefix: str
    options: TransferOptions
    buffers: BufferPool
    source_pacer: Pacer
    target_pacer: Pacer
    counters: CounterRegistry
    stopping: threading.Event
    on_left_open: Callable[[], None] = lambda: None
    """Called where an upload of no more use could not be aborted."""

    def source_name(self, entry: ObjectEntry) -> str:
        return self.source_prefix + entry.key

    def target_name(self, entry: ObjectEntry) -> str:
        return self.target_prefix + entry.target_key

    def transfer_id(self, entry: ObjectEntry, attempt: int) -> str:
        return f"{self.job_id}.{entry.object_id}.{attempt}"

    def is_ours(self, head: ObjectHead, entry: ObjectEntry) -> bool:
        """True where some attempt of this job at this entry wrote the object."""
        return (head.txid or "").startswith(f"{self.job_id}.{entry.object_id}.")


class RetryState:
    """How often, and for how long, the bytes of one object or part are sent again."""

    def __init__(self, context: TransferContext) -> None:
        self._context = context
        self._goes = 0
        self._refusals = 0
        self._failing_since: float | None = None

    def again(self, error: NoriaError) -> None:
        """Allow one more go, after a little wait; raises the error where the last one is spent.

        A refused checksum has resend_limit more goes. What an outage brings (an unknown outcome)
        has as many at least, and more until it has lasted for retry_seconds. Raises Stopped when
        the lease is handed back.
        """
        options = self._context.options
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, DigestRefused):
            self._refusals += 1
            spent = self._refusals > options.resend_limit
        else:
            lasting = now - self._failing_since < options.retry_seconds
            spent = self._goes >= options.resend_limit and not lasting
        if spent:
            raise error
        if self._context.stopping.is_set():
            raise Stopped
        self._goes += 1
        self._context.counters.add(Counter.RETRIES, error.cause)
        _wait(self._context, self._context.target_pacer, self._goes)


def step(
    context: TransferContext, role: str, operation: str, call: Callable[[], Response]
) -> Response:
    """One verb of one store, tried again on throttling, outages and short bodies until
    retry_seconds.

    This is the only retry layer: the SDKs make one try. Raises Stopped between tries when the lease
    is handed back.
    """
    pacer = context.source_pacer if role == "source" else context.target_pacer
    options = context.options
    failing_since: float | None = None
    tries = 0
    while True:
        if context.stopping.is_set() and tries:
            raise Stopped
        started = time.monotonic()
        try:
            with pacer.slot():
                started = time.monotonic()
                response = call()
            context.counters.observe(
                Histogram.REQUEST_SECONDS, role, operation, seconds=time.monotonic() - started
            )
            return response
        except (DigestRefused, OutcomeUnknown, UploadLost) as error:
            context.counters.add(Counter.ERRORS, error.cause)
            raise
        except AccessDenied as error:
            raise _of_one_object(context, role, error) from error
        except Retryable as error:
            tries += 1
            failing_since = failing_since or started
            context.counters.add(Counter.ERRORS, error.cause)
            floor = 0.0
            if isinstance(error, Throttled):
                pacer.on_throttle()
                context.counters.add(Counter.THROTTLES, role)
                floor = min(error.retry_after_seconds or 0.0, options.retry_seconds)
            if time.monotonic() - failing_since >= options.retry_seconds:
                raise
            context.counters.add(Counter.RETRIES, error.cause)
            _wait(context, pacer, tries, floor)


def read_step(context: TransferContext, role: str, call: Callable[[], Response]) -> Response:
    """step() for the bytes of a read. Where they are not those that the store states, they are read
    again, resend_limit times."""
    retry_state = RetryState(context)
    while True:
        try:
            return step(context, role, "get", call)
        except DigestRefused as error:
            retry_state.again(error)


def _of_one_object(context: TransferContext, role: str, error: AccessDenied) -> NoriaError:
    """A source that refuses one object but not its container has a key or a list of its own for
    that object: it fails alone. Anything else concerns the whole run."""
    if role == "source" and error.key is not None:
        try:
            context.source.check_access()
        except NoriaError:
            return error
        return SourceUnreadable(error.message, key=error.key)
    return error


def _wait(context: TransferContext, pacer: Pacer, tries: int, floor_seconds: float = 0.0) -> None:
    """Back off; a lease that is handed back does not wait to the end."""
    seconds = pacer.backoff(
        tries,
        base_seconds=context.options.retry_base_seconds,
        cap_seconds=context.options.retry_cap_seconds,
        floor_seconds=floor_seconds,
    )
    pause(seconds, context.stopping)
