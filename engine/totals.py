"""The running totals of a job: from seals, which count for ever, and from reports of workers."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from noria.engine.interpreter import describe_interpreter
from noria.engine.status import HANDED_BACK_KEPT, HostStatus, JobStatus, Phase
from noria.manifests.counters import Counter, Gauge, StoreRole
from noria.manifests.job.seals import Seal
from noria.manifests.model import (
    Key,
    LeaseEnd,
    LeaseKind,
    LeaseProgress,
    LeaseResult,
    MetricsSnapshot,
    Outcome,
    ReceiptSummary,
)

RATE_SECONDS = 30.0
"""Throughput is taken over this long."""
MOST_HOSTS = 200
"""So many hosts are known by their names, the first ones that a job meets."""
OTHER_HOSTS = "other"
"""What all further ones are called."""

_FAILURES = (Outcome.FAILED, Outcome.SOURCE_CHANGED, Outcome.SOURCE_MISSING, Outcome.SKIPPED)
_NO_SUMS = ReceiptSummary()
_Counts = dict[tuple[str, ...], float]
"""(counter, label values ...) -> total."""


@dataclass(frozen=True, slots=True)
class _Mark:
    now: float
    bytes_done: int
    objects_done: int
    """Without those that failed."""
    retries: float


class _HostTotals:
    """What workers count, by the host that they run on. A host stays when its workers are gone."""

    def __init__(self, earlier: Mapping[str, HostStatus]) -> None:
        self._ended: dict[str, _Counts] = {}
        """Host -> what workers that are gone have counted there."""
        self._places: dict[str, str] = {}
        """Worker -> host, by the host's own name; also of those that are gone, for the log."""
        self._lost: Tally[str] = Tally()
        self._marks: deque[tuple[float, Mapping[str, float]]] = deque()
        """When, and host -> bytes that had crossed until then."""
        self.barred: Mapping[str, str] = {}
        """Host -> why it rests."""
        # The last ones that were met: pods come back under new names, which want room.
        recent = list(earlier)[-MOST_HOSTS // 2 :]
        for name, host in earlier.items():
            met = self._meet(name if name in recent else OTHER_HOSTS)
            _add_counts(self._ended[met], _counts_of(host))

    def place(self, worker: str, host: str) -> None:
        self._places[worker] = host
        self._meet(host)

    def host_of(self, worker: str) -> str | None:
        return self._places.get(worker)

    def drop(self, worker: str, counters: Mapping[tuple[str, ...], float], *, lost: bool) -> None:
        if worker in self._places:
            name = self._meet(self._places[worker])
            _add_counts(self._ended[name], counters)
            self._lost[name] += lost

    def bar(self, reasons: Mapping[str, str]) -> None:
        barred: dict[str, str] = {}
        for host, reason in reasons.items():
            name = self._meet(host)
            barred.setdefault(name, reason if name == host else f"{host}: {reason}")
        self.barred = barred

    def status(self, live: Mapping[str, MetricsSnapshot], now: float) -> dict[str, HostStatus]:
        sums = {name: dict(counts) for name, counts in self._ended.items()}
        workers: Tally[str] = Tally()
        gauges: defaultdict[tuple[str, Gauge], float] = defaultdict(float)
        for worker, metrics in live.items():
            if worker in self._places:
                name = self._meet(self._places[worker])
                workers[name] += 1
                for gauge in (Gauge.CPU_SECONDS, Gauge.MEMORY_BYTES):
                    gauges[name, gauge] += metrics.gauges.get((gauge,), 0.0)
                _add_counts(sums[name], metrics.counters)
        rates = self._rates(now, {name: _crossed(counts) for name, counts in sums.items()})
        return {
            name: HostStatus(
                workers=workers[name],
                workers_lost=self._lost[name],
                cpu_seconds=gauges[name, Gauge.CPU_SECONDS],
                memory_bytes=int(gauges[name, Gauge.MEMORY_BYTES]),
                bytes_per_second=rates[name],
                written_bytes=int(counts.get((Counter.BYTES_WRITTEN,), 0)),
                objects=sum(_by_label(counts, Counter.OBJECTS).values()),
                errors=_by_label(counts, Counter.ERRORS),
                retries=_by_label(counts, Counter.RETRIES),
                barred=self.barred.get(name),
            )
            for name, counts in sums.items()
        }

    def _meet(self, host: str) -> str:
        """The name under which a host is counted, from now on at the latest."""
        name = host if host in self._ended or len(self._ended) < MOST_HOSTS else OTHER_HOSTS
        self._ended.setdefault(name, {})
        return name

    def _rates(self, now: float, crossed: Mapping[str, float]) -> dict[str, float]:
        """Bytes a second of each host since the oldest mark of the window."""
        self._marks.append((now, crossed))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()
        then, before = self._marks[0]
        seconds = now - then
        return {
            name: (size - before.get(name, 0.0)) / seconds if seconds > 0 else 0.0
            for name, size in crossed.items()
        }


class Totals:
    """Adds up. Sizes with the number of seals only in what one PARTS shard has in progress."""

    def __init__(
        self,
        job: str,
        *,
        objects_total: int,
        bytes_total: int,
        earlier: JobStatus | None = None,
        is_lower_bound: bool = False,
        shared: Collection[int] = (),
        handed_back: Iterable[LeaseProgress] = (),
        deadline_seconds: float | None = None,
    ) -> None:
        """`earlier` is the last status of the runs before this one: counters go on from there.

        `is_lower_bound` says that one of them may have sent more than that. `shared` are shards of
        one object of which each lease has a receipt, as when it is read back: it counts once.
        `handed_back` is how far leases were that earlier drivers left to whoever goes on. The
        deadline is in Unix time.
        """
        self._job = job
        self.objects_total = objects_total
        self.bytes_total = bytes_total
        self._sums = ReceiptSummary()
        self._shared = dict.fromkeys(shared, _NO_SUMS)
        """Shard -> what is counted of its object."""
        self._parts_of_open: Tally[int] = Tally()
        """PARTS shard -> bytes of sealed parts, until the object is assembled."""
        self.failing: list[Seal] = []
        """Seals of results with an entry that someone may have to look at; without their sums."""
        metrics = MetricsSnapshot() if earlier is None else earlier.metrics
        self._ended = metrics.without_gauges()
        self._hosts = _HostTotals({} if earlier is None else earlier.hosts)
        self._live: dict[str, MetricsSnapshot] = {}
        self._progress: dict[str, tuple[LeaseProgress, ...]] = {}
        self._returned: dict[int, dict[int, LeaseProgress]] = {}
        """Shard -> first unit -> how far a lease was that was handed back: its journal has it, and
        whoever goes on with it begins from there."""
        for item in handed_back:
            if min(item.first, item.units_done, item.bytes_done, item.units_failed) >= 0:
                self._returned.setdefault(item.shard, {})[item.first] = item
        self._marks: deque[_Mark] = deque()
        self.workers_lost = 0
        self._is_lower_bound = is_lower_bound
        self._deadline_seconds = deadline_seconds

    def add_seal(self, sealed: Seal) -> None:
        self._go_on(sealed.shard, sealed.first, sealed.end)
        fails = any(map(sealed.summary.outcomes.get, _FAILURES))
        if sealed.shard in self._shared:
            fails &= self._add_of_shared(sealed.shard, sealed.summary, fails=fails)
        else:
            self._sums += sealed.summary
        if sealed.kind is not LeaseKind.PARTS and fails:
            self.failing.append(replace(sealed, summary=_NO_SUMS))
        if sealed.kind is LeaseKind.PARTS:
            self._parts_of_open[sealed.shard] += sealed.summary.part_bytes
        elif sealed.kind is LeaseKind.ASSEMBLE:
            self._parts_of_open.pop(sealed.shard, None)

    def _add_of_shared(self, shard: int, summary: ReceiptSummary, *, fails: bool) -> bool:
        """Add what another lease says of an object: its bytes, and its outcome if that is news.

        The first outcome is, and the first failure after that, which takes its place.
        """
        known = self._shared[shard]
        is_news = bool(summary.outcomes) and (
            not known.outcomes or (fails and not any(map(known.outcomes.get, _FAILURES)))
        )
        if not is_news:
            self._sums += replace(summary, outcomes={}, levels={}, causes={}, changes={})
            return False
        self._shared[shard] = summary
        self._sums += summary
        self._sums += ReceiptSummary(
            outcomes=_negative(known.outcomes),
            levels=_negative(known.levels),
            causes=_negative(known.causes),
            changes=_negative(known.changes),
        )
        return True

    def void_parts(self, shard: int) -> None:
        """A PARTS shard begins again: its sealed parts are worth nothing."""
        self._parts_of_open.pop(shard, None)
        self._returned.pop(shard, None)

    def add_report(
        self,
        worker: str,
        progress: tuple[LeaseProgress, ...],
        metrics: MetricsSnapshot,
        results: Iterable[LeaseResult] = (),
    ) -> None:
        """Take in a heartbeat. What a lease had done that it hands back goes on counting."""
        before = {(item.shard, item.first, item.attempt): item for item in self._at_work(worker)}
        for result in results:
            item = before.get((result.shard, result.first, result.attempt))
            if item is not None and result.how is LeaseEnd.RETURNED:
                self._returned.setdefault(item.shard, {})[item.first] = item
        for item in progress:
            self._go_on(item.shard, item.first, item.end)
        self._live[worker] = metrics
        self._progress[worker] = progress

    def _at_work(self, worker: str) -> tuple[LeaseProgress, ...]:
        return self._progress.get(worker, ())

    def _go_on(self, shard: int, first: int, end: int) -> None:
        """Somebody tells of these units now: what was handed back of them is counted there."""
        returned = self._returned.get(shard, {})
        for unit in [unit for unit in returned if first <= unit < end]:
            del returned[unit]
        if not returned:
            self._returned.pop(shard, None)

    def _handed_back(self) -> Iterator[LeaseProgress]:
        for held in self._returned.values():
            yield from held.values()

    def place_worker(self, worker: str, host: str) -> None:
        """Say on which host a worker is: what it counts is counted there, too."""
        self._hosts.place(worker, host)

    def describe_worker(self, worker: str) -> str:
        """The worker and its host, as a log names them."""
        host = self._hosts.host_of(worker)
        return f"worker {worker}" if host is None else f"worker {worker} on {host}"

    def set_barred(self, reasons: Mapping[str, str]) -> None:
        """Say which hosts rest, all of them by name, and why."""
        self._hosts.bar(reasons)

    def drop_worker(self, worker: str, *, lost: bool) -> None:
        """The worker is gone; what it counted stays.

        What it sent after its last report is known to nobody, if it had work then.
        """
        was_up = self._hosts.host_of(worker) is not None
        self._is_lower_bound |= (lost and was_up) or bool(self._at_work(worker))
        self._progress.pop(worker, None)
        metrics = self._live.pop(worker, MetricsSnapshot()).without_gauges()
        self._ended += metrics
        self._hosts.drop(worker, metrics.counters, lost=lost)
        self.workers_lost += lost

    def note_uncounted(self) -> None:
        """Something was sent of which nothing but the seals tells."""
        self._is_lower_bound = True

    @property
    def sums(self) -> ReceiptSummary:
        """What all seals together say."""
        return self._sums

    def status(
        self, phase: Phase, *, now: float, started: float, unix: float, shards: Mapping[str, int]
    ) -> JobStatus:
        sums = self._sums
        at_work = (item for held in self._progress.values() for item in held)
        live = [*at_work, *self._handed_back()]
        bytes_done = min(
            self.bytes_total,
            sums.landed_bytes
            + sum(self._parts_of_open.values())
            + sum(item.bytes_done for item in live),
        )
        objects = [item for item in live if item.kind is LeaseKind.OBJECTS]
        objects_done = min(
            self.objects_total, sums.entries + sum(item.units_done for item in objects)
        )
        failing = sum(item.units_failed for item in objects)
        failed = sums.outcomes.get(Outcome.FAILED, 0) + failing
        bytes_left = self.bytes_total - bytes_done - sums.outcome_bytes.get(Outcome.FAILED, 0)
        metrics = self._ended
        for worker_metrics in self._live.values():
            metrics += worker_metrics
        retries = sum(
            number for labels, number in metrics.counters.items() if labels[0] == Counter.RETRIES
        )
        bytes_rate, objects_rate, retries_rate = self._rates(
            _Mark(now, bytes_done, objects_done - failed, retries)
        )
        metrics = replace(metrics, gauges={**metrics.gauges, **self._silent_seconds()})
        return JobStatus(
            job=self._job,
            phase=phase,
            updated_seconds=unix,
            run_seconds=now - started,
            objects_total=self.objects_total,
            bytes_total=self.bytes_total,
            objects_done=objects_done,
            bytes_done=bytes_done,
            bytes_moved=max(sums.bytes_moved, _written_bytes(metrics)),
            bytes_moved_at_least=self._is_lower_bound,
            sealed_sent_bytes=sums.bytes_moved,
            outcomes=_by_name(sums.outcomes),
            outcome_bytes=_by_name(sums.outcome_bytes),
            levels=_by_name(sums.levels),
            causes=_by_name(sums.causes),
            failing=failing,
            handed_back=tuple(islice(self._handed_back(), HANDED_BACK_KEPT)),
            changes=_by_name(sums.changes),
            shards=shards,
            workers=len(self._live),
            workers_lost=self.workers_lost,
            bytes_per_second=bytes_rate,
            objects_per_second=objects_rate,
            retries_per_second=retries_rate,
            eta_seconds=_eta(
                (bytes_left, bytes_rate), (self.objects_total - objects_done, objects_rate)
            ),
            deadline_seconds=self._deadline_seconds,
            interpreter=describe_interpreter(),
            hosts=self._hosts.status(self._live, now),
            metrics=metrics,
        )

    def _rates(self, mark: _Mark) -> tuple[float, float, float]:
        """Bytes, objects and retries a second since the oldest mark of the window; never negative.

        What a lost worker had in progress no longer counts, which must not look like a rate.
        """
        self._marks.append(mark)
        while len(self._marks) > 2 and mark.now - self._marks[0].now > RATE_SECONDS:
            self._marks.popleft()
        first = self._marks[0]
        seconds = mark.now - first.now
        if seconds <= 0:
            return 0.0, 0.0, 0.0
        return (
            max(0.0, (mark.bytes_done - first.bytes_done) / seconds),
            max(0.0, (mark.objects_done - first.objects_done) / seconds),
            max(0.0, (mark.retries - first.retries) / seconds),
        )

    def _silent_seconds(self) -> dict[tuple[str, ...], float]:
        """The gauge of each store: a silence does not add up, the longest counts."""
        return {
            labels: max(metrics.gauges.get(labels, 0.0) for metrics in self._live.values())
            for labels in ((Gauge.SILENT_SECONDS, role) for role in StoreRole)
            if self._live
        }


def _counts_of(host: HostStatus) -> _Counts:
    """What a status says of a host, as its workers had counted it."""
    counts: _Counts = {
        (Counter.BYTES_WRITTEN,): host.written_bytes,
        (Counter.OBJECTS,): host.objects,
    }
    for counter, by_cause in ((Counter.ERRORS, host.errors), (Counter.RETRIES, host.retries)):
        counts.update(((counter, cause), number) for cause, number in by_cause.items())
    return counts


def _add_counts(sums: _Counts, counts: Mapping[tuple[str, ...], float]) -> None:
    for labels, number in counts.items():
        sums[labels] = sums.get(labels, 0.0) + number


def _by_label(counts: _Counts, counter: Counter) -> dict[str, int]:
    """Last label -> total of a counter."""
    return {labels[-1]: int(number) for labels, number in counts.items() if labels[0] == counter}


def _crossed(counts: _Counts) -> float:
    """Bytes that went to the target, or came back from it to be compared."""
    return sum(
        counts.get((counter,), 0.0) for counter in (Counter.BYTES_WRITTEN, Counter.BYTES_REREAD)
    )


def _written_bytes(metrics: MetricsSnapshot) -> int:
    """What workers have handed to the network for the target, whatever came of it."""
    return int(
        sum(
            number
            for labels, number in metrics.counters.items()
            if labels[0] == Counter.BYTES_WRITTEN
        )
    )


def _eta(*amounts: tuple[int, float]) -> float | None:
    """Seconds left, of amounts that are left and their rates; the slowest counts."""
    left = [amount / rate if rate > 0 else None for amount, rate in amounts if amount > 0]
    known = [seconds for seconds in left if seconds is not None]
    if not left:
        return 0.0
    return max(known) if known else None


def _negative(counts: Mapping[Key, int]) -> dict[Key, int]:
    """To be added: these do not count any more."""
    return {name: -count for name, count in counts.items()}


def _by_name(counts: Mapping[Key, int]) -> dict[str, int]:
    """With plain names for keys, in order, as a status shows and stores them."""
    return dict(sorted((str(key), count) for key, count in counts.items()))
