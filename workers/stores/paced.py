"""A store around another store: it paces requests, retries them and counts them.

This is the only retry layer. It keeps the contract of protocol.py, so that callers need not know
which store they hold. A verb that is missing here is a type error.

    while True:
        with tries:                          wait for a slot of the pacer
            return self.inner.verb(...)      ends with a result, or an error that is not retried

A request that fails with a Retryable is tried again after a pause, as long as the policy allows.
Three of these errors reach the caller, because repeating the request alone would not help:
DigestRefused, OutcomeUnknown and UploadLost. While the store answers nobody (silence.py), requests
are held instead, and that time does not count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import ClassVar, Final

from noria.manifests.counters import (
    BodySize,
    Counter,
    Histogram,
    StoreOperation,
    StoreRole,
)
from noria.manifests.errors import (
    AccessDenied,
    DigestRefused,
    NoriaError,
    OutcomeUnknown,
    Retryable,
    SourceUnreadable,
    StoreSilent,
    StoreUnavailable,
    Throttled,
    UploadLost,
)
from noria.manifests.model import Attributes, PartRecord
from noria.workers.counters import CounterRegistry
from noria.workers.http.client import BodyWriter
from noria.workers.http.connection import OnSent
from noria.workers.runtime.bandwidth import PIECE_BYTES, Bandwidth
from noria.workers.runtime.buffers import BodyBuffer
from noria.workers.runtime.greenlets import pause, without_place
from noria.workers.runtime.hold import Hold
from noria.workers.runtime.pacing import Pacer
from noria.workers.runtime.silence import HOLD_SECONDS, Silences
from noria.workers.stores.protocol import (
    Checksum,
    Deleted,
    ListedUpload,
    ListedVersion,
    ObjectHead,
    Page,
    PageRequest,
    ReadListener,
    SourceStore,
    TargetCapabilities,
    TargetStore,
    Written,
)

NO_LIMIT: Final = 1_000_000
"""Requests at a time to a store that is not paced: more than there are threads."""

_FOR_THE_CALLER: Final = (DigestRefused, OutcomeUnknown, UploadLost)
_NO_ANSWER: Final = (StoreUnavailable, Throttled, OutcomeUnknown)


class Stopped(Exception):
    """The lease is being handed back: nothing is final, and everything may be done again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long one request is retried, and how long the pauses are."""

    tries: int | None = None
    """Tries at most; 1 means no retry. None: as many as fit into `seconds`."""
    seconds: float | None = None
    """Give up once the request has failed for this long; 0 allows one try. None: see `tries`."""
    throttled_seconds: float = 0.0
    """However often it was tried: do not give up before if the last try was throttled.

    A store that throttles is there, and lets one request through after the other.
    """
    base_seconds: float = 0.5
    """The longest first pause; each later one may be twice as long."""
    cap_seconds: float = 60.0
    """The longest pause, unless the store asks for a longer one."""
    outage_seconds: float = 0.0
    """How long to wait for a store that answers nobody. 0: it is not told from other failures."""

    def gives_up(self, tries: int, failing_seconds: float, *, throttled: bool = False) -> bool:
        """Return True after the last try."""
        if throttled and failing_seconds < self.throttled_seconds:
            return False
        return (self.tries is not None and tries >= self.tries) or (
            self.seconds is not None and failing_seconds >= self.seconds
        )

    @property
    def hold_seconds(self) -> float:
        """How long a store may answer nobody before requests to it are held."""
        return HOLD_SECONDS if self.seconds is None else min(HOLD_SECONDS, self.seconds)

    def asked_seconds(self, error: Retryable) -> float:
        """Return the pause that the store asks for (Retry-After), `seconds` at most."""
        seconds = error.retry_after_seconds or 0.0 if isinstance(error, Throttled) else 0.0
        return seconds if self.seconds is None else min(seconds, self.seconds)


PATIENT: Final = RetryPolicy(tries=8, throttled_seconds=120.0)
"""For the few requests of planning and cleaning up: about two minutes with the pauses."""


@dataclass(slots=True)
class SentBytes:
    """Bytes handed to the network through one PacedTarget, also by requests that failed."""

    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedStore(SourceStore):
    """A paced source. Its verbs are those of protocol.py.

    If `stopping` is set, a verb raises Stopped before its next try; a pause ends at once. Once
    `hold` is over, it raises Stopped before any try. By default there is no limit on requests, the
    counters are private, nothing sets `stopping`, and the hold is never over.
    """

    role: ClassVar[StoreRole] = StoreRole.SOURCE

    inner: SourceStore
    policy: RetryPolicy = PATIENT
    pacer: Pacer = field(default_factory=lambda: Pacer(NO_LIMIT))
    silences: Silences = field(default_factory=Silences)
    counters: CounterRegistry = field(default_factory=CounterRegistry)
    stopping: threading.Event = field(default_factory=threading.Event)
    hold: Hold = field(default_factory=Hold)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    """Bodies that are read wait for it: small ones before their request, large ones as they come.

    By default there is no limit.
    """
    requests: Bandwidth = field(default_factory=Bandwidth)
    """Each try waits for it: of requests a second, not of bytes. By default there is no limit."""
    denied_alone: bool = False
    """True: if one object is refused but its container is not, raise SourceUnreadable.

    Such an object has a key or an access list of its own, and fails alone. False: every refusal is
    AccessDenied, which concerns the whole run.
    """

    @property
    def provider(self) -> str:
        return self.inner.provider

    @property
    def identity(self) -> str | None:
        return self.inner.identity

    def open_ahead(self, connections: int) -> None:
        self.inner.open_ahead(connections)

    def connections(self) -> Mapping[str, int]:
        return self.inner.connections()

    def check_access(self, prefix: str = "") -> None:
        """Try once, without retries: the caller wants to know now."""
        self.inner.check_access(prefix)

    def list_page(self, request: PageRequest) -> Page:
        tries = _Tries(self, StoreOperation.LIST, request.prefix)
        while True:
            with tries:
                return self.inner.list_page(request)

    def head(self, key: str) -> ObjectHead | None:
        tries = _Tries(self, StoreOperation.HEAD, key)
        while True:
            with tries:
                return self.inner.head(key)

    def read_range(
        self,
        key: str,
        *,
        offset: int,
        into: BodyBuffer,
        etag: str | None,
        version_id: str | None = None,
        listener: ReadListener | None = None,
    ) -> ObjectHead:
        held = self._held(listener, len(into))
        operation = StoreOperation.GET if into else StoreOperation.HEAD
        tries = _Tries(self, operation, key, held, size=len(into))
        while True:
            tries.await_bandwidth()
            with tries:
                return self.inner.read_range(
                    key,
                    offset=offset,
                    into=into,
                    etag=etag,
                    version_id=version_id,
                    listener=held,
                )

    def read_object(
        self,
        key: str,
        *,
        into: memoryview,
        etag: str | None,
        version_id: str | None = None,
        listener: ReadListener | None = None,
    ) -> ObjectHead:
        held = self._held(listener, len(into))
        tries = _Tries(self, StoreOperation.GET, key, held, size=len(into))
        while True:
            tries.await_bandwidth()
            with tries:
                return self.inner.read_object(
                    key, into=into, etag=etag, version_id=version_id, listener=held
                )

    def read_tags(self, key: str, *, version_id: str | None = None) -> Mapping[str, str]:
        tries = _Tries(self, StoreOperation.TAGS, key)
        while True:
            with tries:
                return self.inner.read_tags(key, version_id=version_id)

    def close(self) -> None:
        self.inner.close()

    def stopped_by(self, stopping: threading.Event) -> PacedStore:
        """Return the same store for work that this event ends."""
        return replace(self, stopping=stopping)

    def _held(self, listener: ReadListener | None, size: int) -> ReadListener | None:
        """Return the listener to a body that is paid for as it comes.

        A limit that is set meanwhile holds for the rest of a large one.
        """
        if size <= 0:
            return listener
        if size <= PIECE_BYTES and not self.bandwidth.is_limited:
            self.bandwidth.take(size)  # counted, for the day on which there is a limit
            return listener
        return _HeldBody(listener, self.bandwidth, size)

    def back_off(self, tries: int, asked_seconds: float = 0.0) -> None:
        """Pause after `tries` failed tries, for at least `asked_seconds`."""
        seconds = self.pacer.backoff(
            tries,
            base_seconds=self.policy.base_seconds,
            cap_seconds=self.policy.cap_seconds,
            floor_seconds=asked_seconds,
        )
        pause(seconds, self.stopping)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedTarget(PacedStore, TargetStore):
    """A paced target. It also counts the bytes that are sent to it."""

    role: ClassVar[StoreRole] = StoreRole.TARGET

    inner: TargetStore
    sent: SentBytes = field(default_factory=SentBytes)

    @property
    def capabilities(self) -> TargetCapabilities:
        return self.inner.capabilities

    def with_capabilities(self, capabilities: TargetCapabilities) -> PacedTarget:
        return replace(self, inner=self.inner.with_capabilities(capabilities))

    def stopped_by(self, stopping: threading.Event) -> PacedTarget:
        return replace(self, stopping=stopping)

    def metered(self) -> PacedTarget:
        """Return the same target with `sent` at 0, for one object or part."""
        return PacedTarget(
            inner=self.inner,
            policy=self.policy,
            pacer=self.pacer,
            silences=self.silences,
            counters=self.counters,
            stopping=self.stopping,
            hold=self.hold,
            bandwidth=self.bandwidth,
            requests=self.requests,
            denied_alone=self.denied_alone,
        )

    def put_object(
        self,
        key: str,
        body: memoryview,
        *,
        attributes: Attributes,
        txid: str,
        crc64nvme: int,
        replaces: str | None = None,
        on_sent: OnSent | None = None,
    ) -> Written:
        count = self._counted(on_sent)
        tries = _Tries(self, StoreOperation.PUT, key, size=len(body))
        while True:
            with tries:
                return self.inner.put_object(
                    key,
                    body,
                    attributes=attributes,
                    txid=txid,
                    crc64nvme=crc64nvme,
                    replaces=replaces,
                    on_sent=count,
                )

    def create_upload(self, key: str, *, attributes: Attributes, txid: str, size: int) -> str:
        tries = _Tries(self, StoreOperation.CREATE_UPLOAD, key)
        while True:
            with tries:
                return self.inner.create_upload(key, attributes=attributes, txid=txid, size=size)

    def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: memoryview | BodyWriter,
        *,
        size: int,
        crc64nvme: Callable[[], int],
        on_sent: OnSent | None = None,
    ) -> Written:
        count = self._counted(on_sent)
        tries = _Tries(self, StoreOperation.PUT_PART, key, size=size)
        while True:
            with tries:
                return self.inner.put_part(
                    key, upload_id, number, body, size=size, crc64nvme=crc64nvme, on_sent=count
                )

    def send_damaged(self, key: str, checksum: Checksum, upload_id: str | None = None) -> None:
        whole = upload_id is None
        tries = _Tries(self, StoreOperation.PUT if whole else StoreOperation.PUT_PART, key)
        while True:
            with tries:
                return self.inner.send_damaged(key, checksum, upload_id)

    def answered_as(self, prefix: str = "") -> str | None:
        tries = _Tries(self, StoreOperation.LIST, prefix)
        while True:
            with tries:
                return self.inner.answered_as(prefix)

    def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        tries = _Tries(self, StoreOperation.LIST_PARTS, key)
        while True:
            with tries:
                return self.inner.list_parts(key, upload_id)

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartRecord],
        *,
        size: int,
        crc64nvme: int,
        attributes: Attributes,
        txid: str,
        replaces: str | None = None,
    ) -> Written:
        tries = _Tries(self, StoreOperation.COMPLETE, key)
        while True:
            with tries:
                return self.inner.complete_upload(
                    key,
                    upload_id,
                    parts,
                    size=size,
                    crc64nvme=crc64nvme,
                    attributes=attributes,
                    txid=txid,
                    replaces=replaces,
                )

    def abort_upload(self, key: str, upload_id: str) -> None:
        tries = _Tries(self, StoreOperation.ABORT, key)
        while True:
            with tries:
                return self.inner.abort_upload(key, upload_id)

    def list_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        """As in protocol.py, but held in memory: if a page fails, the list starts again."""
        tries = _Tries(self, StoreOperation.LIST, prefix)
        while True:
            with tries:
                return iter([*self.inner.list_uploads(prefix)])

    def remove_drafts(self) -> int:
        """Try once, without retries: it is done again at the next reconcile."""
        return self.inner.remove_drafts()

    def list_versions(self, prefix: str) -> Iterator[ListedVersion]:
        tries = _Tries(self, StoreOperation.LIST, prefix)
        while True:
            with tries:
                return iter(list(self.inner.list_versions(prefix)))

    def delete_object(
        self, key: str, version_id: str | None = None, *, etag: str | None = None
    ) -> Deleted | None:
        tries = _Tries(self, StoreOperation.DELETE, key)
        while True:
            with tries:
                return self.inner.delete_object(key, version_id, etag=etag)

    def _counted(self, on_sent: OnSent | None) -> OnSent:
        """Return what counts sent bytes here, and tells them to whoever else counts."""
        if on_sent is None:
            return self._count_sent

        def count(size: int) -> None:
            self._count_sent(size)
            on_sent(size)

        return count

    def _count_sent(self, size: int) -> None:
        self.sent.total += size
        self.counters.add(Counter.BYTES_WRITTEN, by=size)


class _HeldBody:
    """Listens to a body that is paid for before it is read: its first piece, then as it comes.

    Meanwhile nobody reads the connection, whose time-outs count only what is waited for there. A
    wait for more goes on when the lease is handed back, as the rest of a transfer in flight does.
    """

    def __init__(self, listener: ReadListener | None, bandwidth: Bandwidth, size: int) -> None:
        self._listener = listener
        self._bandwidth = bandwidth
        self._size = size
        self._begin()

    def _begin(self) -> None:
        self.held_seconds = 0.0
        """In this try, since its request."""
        self._arrived, self._paid, self._paid_at = 0, 0, 0.0

    def pay_first(self, stopping: threading.Event) -> None:
        """Wait for the first piece, before the request. Raises Stopped."""
        if not self._take(min(self._size, PIECE_BYTES), stopping):
            raise Stopped

    def update(self, piece: memoryview, crc64nvme: int | None = None) -> None:
        if self._listener is not None:
            self._listener.update(piece, crc64nvme)
        self._arrived += len(piece)
        more = min(self._size, self._arrived + PIECE_BYTES) - self._paid
        if more <= 0:
            return
        began = time.monotonic()
        if not self._take(more):
            raise Stopped
        self.held_seconds += time.monotonic() - began

    def restart(self) -> bool:
        self._begin()
        return self._listener is None or self._listener.restart()

    def give_back(self) -> None:
        """The try has failed: what has not arrived was paid for in vain."""
        if (unread := self._paid - self._arrived) > 0:
            self._bandwidth.give_back(unread, self._paid_at)
            self._paid = self._arrived

    def _take(self, size: int, stopping: threading.Event | None = None) -> bool:
        if not self._bandwidth.take(size, stopping):
            return False
        self._paid, self._paid_at = self._paid + size, self._bandwidth.now()
        return True


class _Tries:
    """The tries of one verb: a block that is entered until it returns or must not be retried."""

    __slots__ = (
        "_failing_since",
        "_key",
        "_listener",
        "_operation",
        "_size",
        "_slot",
        "_store",
        "_tries",
    )

    def __init__(
        self,
        store: PacedStore,
        operation: StoreOperation,
        key: str,
        listener: ReadListener | None = None,
        *,
        size: int = 0,
    ) -> None:
        """`size` is how many bytes of an object one try carries, either way."""
        self._store = store
        self._operation = operation
        self._size = size
        self._key = key
        self._listener = listener
        self._tries = 0
        self._failing_since: float | None = None

    def await_bandwidth(self) -> None:
        """Wait before the request, for a small body or the first piece. Raises Stopped."""
        if not isinstance(self._listener, _HeldBody):
            return
        began = time.monotonic()
        self._listener.pay_first(self._store.stopping)
        if self._failing_since is not None:
            self._failing_since += time.monotonic() - began

    def __enter__(self) -> None:
        try:
            self._begin()
        except BaseException:
            self._give_back()
            raise

    def _begin(self) -> None:
        """Wait for a slot. Raises Stopped."""
        store = self._store
        if self._tries and store.stopping.is_set():
            raise Stopped
        self._await_request()
        asked_at = time.monotonic() if self._tries else 0.0
        slot = store.pacer.acquire(self._key, store.stopping)
        if slot is None:
            raise Stopped
        if store.hold.is_over:  # looked at last: a slot may be waited for
            store.pacer.release(slot, succeeded=False)
            raise Stopped
        self._slot = slot
        if self._failing_since is not None and slot.accepted_at > self._failing_since:
            # It waited for others that got through: only the rest counts as failing.
            self._failing_since += slot.started - asked_at

    def _await_request(self) -> None:
        """Wait for the store's share of requests a second, if it has one. Raises Stopped."""
        requests = self._store.requests
        if not requests.is_limited:
            return
        began = time.monotonic()
        if not requests.take(1, self._store.stopping):
            raise Stopped
        if self._failing_since is not None:
            self._failing_since += time.monotonic() - began

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        store = self._store
        store.pacer.release(self._slot, succeeded=error is None)
        if error is not None:
            self._give_back()
        if error is None or (isinstance(error, NoriaError) and not isinstance(error, _NO_ANSWER)):
            store.silences.note_answer(self._operation)
        if error is None:
            seconds = time.monotonic() - self._began
            store.counters.observe(
                Histogram.REQUEST_SECONDS, store.role, self._operation, seconds=seconds
            )
            if self._size:
                size = BodySize.of(self._size)
                store.counters.observe(Histogram.BODY_SECONDS, store.role, size, seconds=seconds)
            return False
        if isinstance(error, Retryable):
            return self._tries_again(error)
        if isinstance(error, AccessDenied) and self._refuses_this_object_alone(error):
            raise SourceUnreadable(error.message, key=error.key) from error
        return False

    def _give_back(self) -> None:
        if isinstance(self._listener, _HeldBody):
            self._listener.give_back()

    @property
    def _began(self) -> float:
        """When this try began; time in which it was held for its bandwidth does not count."""
        return self._slot.started + self._held_seconds

    @property
    def _held_seconds(self) -> float:
        return self._listener.held_seconds if isinstance(self._listener, _HeldBody) else 0.0

    def _tries_again(self, error: Retryable) -> bool:
        """Pause and return True; return False if the error is not to be retried."""
        store, policy = self._store, self._store.policy
        asked_seconds, began = policy.asked_seconds(error), self._began
        if self._failing_since is not None:
            self._failing_since += self._held_seconds
        if isinstance(error, _NO_ANSWER):
            store.silences.note_failure(self._operation, self._key, began, asked_seconds)
        if self._listener is not None and not self._listener.restart():
            return False
        self._count_error(error.cause, time.monotonic() - began)
        if isinstance(error, _FOR_THE_CALLER):
            if isinstance(error, OutcomeUnknown):
                self._is_held(error, gives_up=False)
            return False
        self._tries += 1
        others_go_on = False
        if isinstance(error, Throttled):
            others_go_on = store.pacer.on_throttle(self._slot, asked_seconds)
            store.counters.add(Counter.THROTTLES, store.role)
        if self._failing_since is None:
            self._failing_since = began
        gives_up = policy.gives_up(
            self._tries,
            time.monotonic() - self._failing_since,
            throttled=isinstance(error, Throttled),
        )
        if isinstance(error, _NO_ANSWER) and self._is_held(error, gives_up=gives_up):
            return True
        if gives_up:
            return False
        store.counters.add(Counter.RETRIES, error.cause)
        store.counters.add(Counter.REQUEST_RETRIES, store.role, self._operation)
        with without_place() if others_go_on else nullcontext():
            store.back_off(self._tries, asked_seconds)
        return True

    def _count_error(self, cause: str, seconds: float) -> None:
        counters, place = self._store.counters, (self._store.role, self._operation)
        counters.add(Counter.ERRORS, cause)
        counters.add(Counter.REQUEST_ERRORS, *place, cause)
        counters.observe(Histogram.FAILED_SECONDS, *place, seconds=seconds)

    def _is_held(self, error: Retryable, *, gives_up: bool) -> bool:
        """Wait for a store that answers nobody, and return True; False if it does answer.

        Raises StoreSilent if it has answered nobody for as long as the policy waits.
        """
        store, most_seconds = self._store, self._store.policy.outage_seconds
        silence = store.silences.of(self._operation)
        if not most_seconds or silence is None:
            return False
        if not gives_up and time.monotonic() - silence.since < store.policy.hold_seconds:
            return False
        if not (silence.held or silence.is_of_many) and self._store_answers():
            return False
        if not store.silences.hold(self._operation, silence, store.stopping, most_seconds):
            raise StoreSilent(
                f"the {store.role} has answered nothing for {most_seconds:.0f} s "
                f"({error.message}); run again when it does",
                key=error.key,
            ) from error
        if silence.over:
            self._tries, self._failing_since = 0, None
        return True

    def _store_answers(self) -> bool:
        """Look once whether the store answers something else, if only with a refusal."""
        try:
            self._store.inner.check_access()
        except Retryable:
            return False
        except NoriaError:
            return True
        return True

    def _refuses_this_object_alone(self, error: AccessDenied) -> bool:
        """Return True if `denied_alone` is set and the container may be listed there."""
        if not self._store.denied_alone or error.key is None:
            return False
        try:
            self._store.inner.check_access(error.key)
        except NoriaError:
            return False
        return True
