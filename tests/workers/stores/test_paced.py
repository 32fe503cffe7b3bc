"""The wrapper around a store: what is tried again, for how long, and what is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from noria.manifests.counters import BodySize, Counter, Histogram, StoreOperation
from noria.manifests.errors import (
    AccessDenied,
    ConfigurationError,
    DigestRefused,
    NoriaError,
    OutcomeUnknown,
    ShortBody,
    SourceMissing,
    SourceUnreadable,
    StoreSilent,
    StoreUnavailable,
    Throttled,
    UploadLost,
)
from noria.manifests.model import Attributes
from noria.workers.counters import CounterRegistry
from noria.workers.digest import PartDigest
from noria.workers.runtime import silence
from noria.workers.runtime.bandwidth import Bandwidth
from noria.workers.runtime.pacing import Pacer
from noria.workers.runtime.silence import MANY_KEYS
from noria.workers.stores.paced import PacedStore, PacedTarget, RetryPolicy, Stopped
from noria.workers.stores.protocol import (
    Checksum,
    ObjectHead,
    PageRequest,
    TargetStore,
    Written,
)
from tests.support.poured import poured

AT_ONCE = RetryPolicy(tries=4, base_seconds=0.0)
HEAD = ObjectHead(size=1, etag="e")
BODY = memoryview(b"twelve bytes")


@dataclass
class Failing:
    """A store each of whose verbs raises these errors in turn, then answers."""

    errors: list[Exception]
    calls: list[str] = field(default_factory=list)
    access: NoriaError | None = None

    def __getattr__(self, verb: str) -> Callable[..., object]:
        def answer(*arguments: object, **named: object) -> object:
            self.calls.append(verb)
            if self.errors:
                raise self.errors.pop(0)
            return [] if verb in ("list_uploads", "list_versions") else None

        return answer

    def check_access(self, prefix: str = "") -> None:
        if self.access is not None:
            raise self.access


def target(*errors: Exception, policy: RetryPolicy = AT_ONCE, **named: Any) -> PacedTarget:
    inner = named.pop("inner", None) or Failing(list(errors))
    return PacedTarget(inner=cast(TargetStore, inner), policy=policy, **named)


def put(store: PacedTarget, body: memoryview = BODY) -> Written:
    return store.put_object("k", body, attributes=Attributes(), txid="t", crc64nvme=0)


VERBS: dict[str, tuple[StoreOperation, Callable[[PacedTarget], object]]] = {
    "list_page": (StoreOperation.LIST, lambda store: store.list_page(PageRequest(prefix=""))),
    "head": (StoreOperation.HEAD, lambda store: store.head("k")),
    "read_range": (
        StoreOperation.GET,
        lambda store: store.read_range("k", offset=0, into=BODY, etag=None),
    ),
    "read_object": (
        StoreOperation.GET,
        lambda store: store.read_object("k", into=BODY, etag=None),
    ),
    "read_tags": (StoreOperation.TAGS, lambda store: store.read_tags("k")),
    "put_object": (StoreOperation.PUT, put),
    "create_upload": (
        StoreOperation.CREATE_UPLOAD,
        lambda store: store.create_upload("k", attributes=Attributes(), txid="t", size=1),
    ),
    "put_part": (
        StoreOperation.PUT_PART,
        lambda store: store.put_part("k", "u", 1, BODY, size=12, crc64nvme=lambda: 0),
    ),
    "send_damaged": (
        StoreOperation.PUT,
        lambda store: store.send_damaged("k", Checksum.MD5),
    ),
    "answered_as": (StoreOperation.LIST, lambda store: store.answered_as()),
    "list_parts": (StoreOperation.LIST_PARTS, lambda store: store.list_parts("k", "u")),
    "complete_upload": (
        StoreOperation.COMPLETE,
        lambda store: store.complete_upload(
            "k", "u", [], size=1, crc64nvme=0, attributes=Attributes(), txid="t"
        ),
    ),
    "abort_upload": (StoreOperation.ABORT, lambda store: store.abort_upload("k", "u")),
    "list_uploads": (StoreOperation.LIST, lambda store: store.list_uploads("")),
    "list_versions": (StoreOperation.LIST, lambda store: store.list_versions("")),
    "delete_object": (StoreOperation.DELETE, lambda store: store.delete_object("k")),
}
ONCE = {"check_access", "close", "with_capabilities", "capabilities", "provider"} | {
    "identity",
    "open_ahead",
    "connections",
    "remove_drafts",
}
"""What sends no request, or is to be answered at once."""


def test_every_verb_is_here() -> None:
    verbs = {name for name in dir(TargetStore) if not name.startswith("_")}
    assert verbs - ONCE == VERBS.keys()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_fails_is_tried_again_and_counted(verb: str) -> None:
    operation, call = VERBS[verb]
    store = target(Throttled("slow down"), StoreUnavailable("reset"), ShortBody("cut"))
    call(store)
    assert cast(Failing, store.inner).calls == [verb] * 4
    for cause in ("throttled", "unavailable", "short_body"):
        assert store.counters.total(Counter.ERRORS, cause) == 1
        assert store.counters.total(Counter.RETRIES, cause) == 1
        assert store.counters.total(Counter.REQUEST_ERRORS, "target", operation, cause) == 1
    assert store.counters.total(Counter.REQUEST_RETRIES, "target", operation) == 3
    assert store.counters.total(Counter.THROTTLES, "target") == 1
    histograms = store.counters.snapshot().histograms
    assert sum(histograms[Histogram.REQUEST_SECONDS, "target", operation][:-1]) == 1
    assert sum(histograms[Histogram.FAILED_SECONDS, "target", operation][:-1]) == 3
    bodies = sum(
        sum(counts[:-1]) for labels, counts in histograms.items() if labels[0] == "body_seconds"
    )
    assert bodies == (verb in ("put_object", "put_part", "read_range", "read_object"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, BodySize.TINY),
        (65_536, BodySize.TINY),
        (65_537, BodySize.SMALL),
        (2**20 + 1, BodySize.MEDIUM),
        (2**24, BodySize.MEDIUM),
        (2**24 + 1, BodySize.LARGE),
    ],
)
def test_bodies_are_told_apart_by_size(size: int, expected: BodySize) -> None:
    assert BodySize.of(size) is expected


@pytest.mark.parametrize("kind", [DigestRefused, OutcomeUnknown, UploadLost])
def test_what_needs_more_than_the_same_again_reaches_the_caller(kind: type[NoriaError]) -> None:
    store = target(kind("no"))
    with pytest.raises(kind):
        put(store)
    assert cast(Failing, store.inner).calls == ["put_object"]
    assert store.counters.total(Counter.ERRORS, kind.cause) == 1
    assert store.counters.total(Counter.RETRIES, kind.cause) == 0


@pytest.mark.parametrize("error", [SourceMissing("gone"), ConfigurationError("no"), KeyError("x")])
def test_what_is_permanent_is_neither_tried_again_nor_counted(error: Exception) -> None:
    store = target(error)
    with pytest.raises(type(error)):
        store.head("k")
    assert cast(Failing, store.inner).calls == ["head"]
    assert not store.counters.snapshot().counters


def test_tries_have_an_end() -> None:
    store = target(*(StoreUnavailable(str(number)) for number in range(9)))
    with pytest.raises(StoreUnavailable, match="3"):
        store.head("k")
    assert store.counters.total(Counter.ERRORS, "unavailable") == 4
    assert store.counters.total(Counter.RETRIES, "unavailable") == 3


def test_a_store_that_throttles_is_given_longer_than_one_that_fails() -> None:
    policy = replace(AT_ONCE, throttled_seconds=60.0)
    put(target(*[Throttled("no")] * 20, policy=policy))
    with pytest.raises(StoreUnavailable):
        put(target(*[Throttled("no")] * 3, StoreUnavailable("down"), policy=policy))


def test_one_that_throttles_for_too_long_is_given_up() -> None:
    with pytest.raises(Throttled):
        put(target(*[Throttled("no")] * 9, policy=replace(AT_ONCE, throttled_seconds=1e-9)))


def test_no_seconds_allow_one_try() -> None:
    store = target(StoreUnavailable("down"), policy=RetryPolicy(seconds=0.0))
    with pytest.raises(StoreUnavailable):
        store.head("k")
    assert cast(Failing, store.inner).calls == ["head"]


def test_a_store_says_how_long_it_wants_to_be_left_alone() -> None:
    began = time.monotonic()
    target(Throttled("slow down", retry_after_seconds=0.2)).head("k")
    assert time.monotonic() - began >= 0.2
    short = RetryPolicy(seconds=0.05, base_seconds=0.0)
    began = time.monotonic()
    target(Throttled("slow down", retry_after_seconds=600.0), policy=short).head("k")
    assert time.monotonic() - began < 10


def test_a_throttle_lowers_the_limit() -> None:
    pacer = Pacer(10)
    target(Throttled("slow down"), pacer=pacer).head("k")
    assert pacer.limit < 8


def test_stopping_ends_a_pause_at_once() -> None:
    stopping = threading.Event()
    patient = RetryPolicy(tries=4, base_seconds=1000.0, cap_seconds=1000.0)
    errors = [Throttled("slow down", retry_after_seconds=600.0)] * 4
    store = target(*errors, policy=patient, stopping=stopping)
    threading.Timer(0.1, stopping.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        store.head("k")
    assert time.monotonic() - began < 10
    assert cast(Failing, store.inner).calls == ["head"]


def test_a_slot_is_given_back_whatever_happens() -> None:
    pacer = Pacer(1)
    for error in (StoreUnavailable("reset"), DigestRefused("no"), KeyError("bug")):
        store = target(error, policy=RetryPolicy(tries=1), pacer=pacer)
        with pytest.raises(type(error)):
            store.head("k")
    target(pacer=pacer).head("k")


# -- a store that answers nobody -------------------------------------------------------------------


AWAY = RetryPolicy(seconds=0.0, base_seconds=0.0, outage_seconds=3600.0)


@pytest.fixture
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "TRY_SECONDS", 0.01)


@pytest.mark.usefixtures("quick_tries")
@pytest.mark.parametrize("kind", [StoreUnavailable, Throttled])
def test_a_store_that_answers_nobody_is_waited_for(kind: type[NoriaError]) -> None:
    inner = Failing([kind("away")] * 12, access=StoreUnavailable("away"))
    store = target(inner=inner, policy=AWAY)
    store.head("k")
    assert inner.calls == ["head"] * 13


def test_one_that_answers_something_else_has_trouble_with_this_object() -> None:
    for access in (None, AccessDenied("no right to list")):
        inner = Failing([StoreUnavailable("this one")] * 12, access=access)
        with pytest.raises(StoreUnavailable):
            target(inner=inner, policy=AWAY).head("k")
        assert inner.calls == ["head"]


@pytest.mark.usefixtures("quick_tries")
def test_so_many_objects_in_a_row_are_the_stores_trouble_though_it_can_be_listed() -> None:
    inner = Failing([StoreUnavailable("read-only today")] * 12)
    store = target(inner=inner, policy=AWAY)
    for number in range(MANY_KEYS - 1):
        with pytest.raises(StoreUnavailable):
            store.head(f"k{number}")
    store.head("one more")
    assert not inner.errors


@pytest.mark.usefixtures("quick_tries")
def test_one_that_stays_away_stops_the_run() -> None:
    inner = Failing([StoreUnavailable("away")] * 1000, access=StoreUnavailable("away"))
    store = target(inner=inner, policy=replace(AWAY, outage_seconds=0.1))
    with pytest.raises(StoreSilent, match="the target has answered nothing"):
        store.head("k")


@pytest.mark.usefixtures("quick_tries")
def test_a_held_request_ends_when_its_lease_is_handed_back() -> None:
    stopping = threading.Event()
    inner = Failing([StoreUnavailable("away")] * 100_000, access=StoreUnavailable("away"))
    threading.Timer(0.1, stopping.set).start()
    with pytest.raises(Stopped):
        target(inner=inner, policy=AWAY, stopping=stopping).head("k")


# -- what one object is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "access", "raised"),
    [
        ("k", None, SourceUnreadable),
        ("k", AccessDenied("all of it"), AccessDenied),
        (None, None, AccessDenied),
    ],
)
def test_a_source_may_refuse_one_object_alone(
    key: str | None, access: NoriaError | None, raised: type[NoriaError]
) -> None:
    inner = Failing([AccessDenied("no", key=key)], access=access)
    store = PacedStore(inner=cast(TargetStore, inner), policy=AT_ONCE, denied_alone=True)
    with pytest.raises(raised) as caught:
        store.head("k")
    assert caught.value.key == key


def test_else_a_refusal_concerns_everything() -> None:
    with pytest.raises(AccessDenied):
        target(AccessDenied("no", key="k")).head("k")


# -- bodies ----------------------------------------------------------------------------------------


@dataclass
class Torn:
    """A source whose first answers break off in the middle."""

    errors: int
    cut: int = 5
    """Bytes that come before."""

    def read_object(self, key: str, *, into: memoryview, listener: Any, **_: object) -> ObjectHead:
        listener.update(into[: self.cut])
        if self.errors:
            self.errors -= 1
            raise ShortBody("cut")
        listener.update(into[self.cut :])
        return HEAD


class OneWay:
    """Cannot take back what it heard."""

    def update(self, piece: memoryview, crc64nvme: int | None = None) -> None:
        """It has gone out."""

    def restart(self) -> bool:
        return False


def test_a_listener_hears_a_torn_read_again_from_its_start() -> None:
    store = PacedStore(inner=cast(TargetStore, Torn(2)), policy=AT_ONCE)
    torn, whole = PartDigest(4), PartDigest(4)
    store.read_object("k", into=BODY, etag=None, listener=torn)
    whole.update(BODY)
    assert (torn.crc64nvme, torn.size, torn.chunks()) == (whole.crc64nvme, 12, whole.chunks())


def test_a_read_that_cannot_be_taken_back_is_not_tried_again() -> None:
    store = PacedStore(inner=cast(TargetStore, Torn(1)), policy=AT_ONCE)
    with pytest.raises(ShortBody):
        store.read_object("k", into=BODY, etag=None, listener=OneWay())
    assert not store.counters.snapshot().counters, "whoever sends it counts it"


@dataclass
class Writing:
    """A target that is not there at first, then breaks off, and then takes what it gets."""

    sent: list[int]
    """Bytes that each try gets on its way; all but the last fail."""

    def put_object(
        self, key: str, body: memoryview, *, on_sent: Callable[[int], None], **_: object
    ) -> Written:
        count = self.sent.pop(0)
        if count:
            on_sent(count)
        if self.sent:
            raise StoreUnavailable("no connection")
        return Written(etag="e")

    def put_part(self, *_: object, on_sent: Callable[[int], None], **__: object) -> Written:
        return self.put_object("k", BODY, on_sent=on_sent)


def test_what_was_handed_to_the_network_is_counted_and_nothing_else() -> None:
    counters = CounterRegistry()
    whole = target(inner=Writing([0, 5, 0, 12]), counters=counters)
    one, other = whole.metered(), whole.metered()
    put(one)
    assert (one.sent.total, other.sent.total) == (17, 0), "a try without a connection sends nothing"
    streaming = target(inner=Writing([0, 7, 12]), counters=counters).metered()
    told: list[int] = []
    streaming.put_part(
        "k", "u", 1, poured([BODY]), size=12, crc64nvme=lambda: 0, on_sent=told.append
    )
    assert streaming.sent.total == 19
    assert told == [7, 12], "others who count are told, too"
    assert counters.total(Counter.BYTES_WRITTEN) == 36


def test_time_in_line_for_bandwidth_is_no_time_of_failing() -> None:
    """Half a second of patience, and a second and a half in line between two short errors."""
    policy = RetryPolicy(seconds=0.5, base_seconds=0.0)
    large = memoryview(bytes(100_000))
    bandwidth = Bandwidth(100_000 / 1.5)
    torn = cast(TargetStore, Torn(2, cut=len(large)))
    store = PacedStore(inner=torn, policy=policy, bandwidth=bandwidth)
    store.read_object("k", into=large, etag=None, listener=PartDigest(4))
    assert bandwidth.held_seconds > 1.5


def test_bytes_that_never_came_are_not_paid_for() -> None:
    """A store that refuses most requests leaves the bandwidth to those that it answers."""
    bandwidth = Bandwidth(1e9)
    failing = Failing([StoreUnavailable("500"), StoreUnavailable("500")])
    store = PacedStore(inner=cast(TargetStore, failing), policy=AT_ONCE, bandwidth=bandwidth)
    store.read_object("k", into=BODY, etag=None)
    assert bandwidth.use().used_bytes == len(BODY)
    with pytest.raises(SourceMissing):
        PacedStore(
            inner=cast(TargetStore, Failing([SourceMissing("gone")])), bandwidth=bandwidth
        ).read_range("k", offset=0, into=BODY, etag=None)
    assert bandwidth.use().used_bytes == len(BODY)
    torn = cast(TargetStore, Torn(2))
    PacedStore(inner=torn, policy=AT_ONCE, bandwidth=bandwidth).read_object(
        "k", into=BODY, etag=None, listener=PartDigest(4)
    )
    assert bandwidth.use().used_bytes == 2 * len(BODY) + 2 * 5
