"""The bandwidth of a job holds over all workers together, and is used if there is work for it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.engine.concurrency.bandwidth import FLOOR, BandwidthBudget, fair_shares
from noria.engine.concurrency.search import TransferSearch
from noria.engine.concurrency.throughput import Window
from noria.manifests.model import BandwidthShare, BandwidthUse
from noria.workers.runtime.bandwidth import PIECE_BYTES, TokenBucket

MB = 1e6
STEP_SECONDS = 0.05
WINDOW = round(10 / STEP_SECONDS)
TIMEOUT_SECONDS = 60.0
HOLD_SECONDS = 30.0


@dataclass(eq=False)
class HeldWorker:
    """A worker with real buckets and streams that read as fast as they may."""

    name: str
    began: float
    rate: float
    """Bytes a second that it could read."""
    streams: int = 4
    heard: bool = True
    stops_at: float = math.inf
    inbox: list[BandwidthShare] = field(default_factory=list)
    reports_at: float = 0.0
    on_the_way: list[tuple[float, BandwidthUse]] = field(default_factory=list)
    used: float = 0.0
    held: float = 0.0

    def __post_init__(self) -> None:
        self.bucket = TokenBucket(0.0, self.began)
        self.places: list[float | None] = [None] * self.streams
        self.busy_until = [self.began] * self.streams

    def step(self, now: float) -> float:
        """Return the bytes that were allowed in this step."""
        allowed = 0.0
        for stream in range(self.streams):
            while self.busy_until[stream] <= now:
                place = self.places[stream]
                if place is None:
                    place = self.places[stream] = self.bucket.ask(PIECE_BYTES, now)
                if self.bucket.wait_seconds(place, now) > 0:
                    self.held += STEP_SECONDS
                    break
                allowed += PIECE_BYTES
                self.places[stream] = None
                began = max(self.busy_until[stream], now - STEP_SECONDS)
                self.busy_until[stream] = began + PIECE_BYTES * self.streams / self.rate
        self.used += allowed
        return allowed

    def use(self, now: float) -> BandwidthUse:
        return BandwidthUse(
            share=self.bucket.rate,
            seconds=now - self.began,
            used_bytes=self.used,
            transfer_seconds=self.streams * (now - self.began),
            held_seconds=self.held,
        )


class HeldJob:
    """A driver and its workers on one clock. Reports and instructions come late."""

    def __init__(self, limit: float, seed: int, *, late_seconds: float = 0.5) -> None:
        self.limit, self.now = limit, 0.0
        self.budget = BandwidthBudget(lambda: self.limit)
        self.workers: list[HeldWorker] = []
        self.allowed: list[float] = []
        self._chance = random.Random(seed)
        self._late_seconds = late_seconds
        self._decides_at = 0.0
        self._serial = 0

    def join(self, rate: float, streams: int = 4) -> HeldWorker:
        self._serial += 1
        worker = HeldWorker(f"{self._serial:03}", self.now, rate, streams)
        worker.reports_at = self.now + self._chance.uniform(0.1, 1.0)
        self.workers.append(worker)
        self.budget.join(worker.name)
        return worker

    def end(self, worker: HeldWorker) -> None:
        """Its process is seen to end."""
        self.workers.remove(worker)
        self.budget.leave(worker.name)

    def lose(self, worker: HeldWorker) -> None:
        """Nobody hears it; it goes on until its hold is over."""
        worker.heard, worker.stops_at = False, self.now + HOLD_SECONDS
        self.budget.leave(worker.name, may_work_until=self.now + TIMEOUT_SECONDS)

    def play(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_SECONDS)):
            self.now += STEP_SECONDS
            if self.now >= self._decides_at:
                self._decides_at = self.now + 0.5
                for name, share in self.budget.decide(self.now).items():
                    (one,) = (worker for worker in self.workers if worker.name == name)
                    one.inbox.append(share)
            self.workers = [worker for worker in self.workers if worker.stops_at > self.now]
            self.allowed.append(sum(worker.step(self.now) for worker in self.workers))
            for worker in self.workers:
                self._exchange(worker)

    def _exchange(self, worker: HeldWorker) -> None:
        """As exchange() does: what it is told, then its report, which arrives later."""
        if not worker.heard:
            return
        if self.now >= worker.reports_at:
            for share in worker.inbox:
                worker.bucket.set_rate(share.bytes_per_second, self.now)
            worker.inbox.clear()
            arrives = self.now + self._chance.uniform(0.0, self._late_seconds)
            worker.on_the_way.append((arrives, worker.use(self.now)))
            worker.reports_at = arrives + self._chance.uniform(0.1, 1.0)
        while worker.on_the_way and worker.on_the_way[0][0] <= self.now:
            self.budget.hear(worker.name, worker.on_the_way.pop(0)[1])

    def windows(self, last_seconds: float | None = None) -> list[float]:
        """Bytes a second in each ten seconds."""
        allowed = self.allowed
        if last_seconds is not None:
            allowed = allowed[-round(last_seconds / STEP_SECONDS) :]
        sums = [sum(allowed[:WINDOW])]
        for place in range(WINDOW, len(allowed)):
            sums.append(sums[-1] + allowed[place] - allowed[place - WINDOW])
        return [total / 10 for total in sums]


@pytest.mark.parametrize("workers", [1, 2, 4, 100])
@pytest.mark.parametrize("limit", [20 * MB, 200 * MB])
def test_it_holds_within_a_twentieth_and_is_used(workers: int, limit: float) -> None:
    job = HeldJob(limit, seed=workers)
    for _ in range(workers):
        job.join(rate=3 * limit / workers)
        job.play(0.1)
    job.play(40)
    assert max(job.windows()) <= 1.05 * limit
    assert min(job.windows(last_seconds=25)) >= 0.95 * limit
    assert job.budget.holds


def test_shares_follow_demand() -> None:
    """No worker keeps what it does not use, and gets it back when it wants it."""
    job = HeldJob(200 * MB, seed=3)
    slow = [job.join(rate=8 * MB) for _ in range(8)]
    fast = job.join(rate=1000 * MB, streams=8)
    job.play(40)
    assert min(job.windows(last_seconds=20)) >= 0.95 * 200 * MB
    assert fast.bucket.rate > 100 * MB
    for worker in slow:
        worker.rate = 1000 * MB
    job.play(40)
    shares = [worker.bucket.rate for worker in job.workers]
    assert max(shares) <= 1.1 * min(shares)
    assert min(job.windows(last_seconds=20)) >= 0.95 * 200 * MB
    assert max(job.windows()) <= 1.05 * 200 * MB


def test_a_lost_worker_keeps_its_share_until_it_must_have_stopped() -> None:
    job = HeldJob(100 * MB, seed=4)
    first, second = job.join(rate=500 * MB), job.join(rate=500 * MB)
    job.play(20)
    job.lose(first)
    job.play(25)
    assert second.bucket.rate <= 51 * MB
    job.play(TIMEOUT_SECONDS - 25 + 20)
    assert second.bucket.rate >= 99 * MB
    assert max(job.windows()) <= 1.05 * 100 * MB


def test_a_worker_that_ended_leaves_its_share_at_once() -> None:
    job = HeldJob(100 * MB, seed=5)
    first, second = job.join(rate=500 * MB), job.join(rate=500 * MB)
    job.play(20)
    job.end(first)
    job.play(5)
    assert second.bucket.rate >= 99 * MB


@pytest.mark.parametrize("limit", [20 * MB, 400 * MB, math.inf])
def test_all_workers_follow_a_change_within_ten_seconds(limit: float) -> None:
    job = HeldJob(100 * MB, seed=6)
    for _ in range(10):
        job.join(rate=100 * MB)
    job.play(20)
    job.limit = limit
    job.play(10)
    total = sum(worker.bucket.rate for worker in job.workers)
    assert total <= 1.01 * limit
    assert total >= 0.98 * limit
    job.limit = 100 * MB
    job.play(10)
    assert sum(worker.bucket.rate for worker in job.workers) <= 101 * MB


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(
            st.sampled_from(["join", "end", "lose", "slow", "fast", "rest"]), st.floats(0.5, 20.0)
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(0.0, 3.0),
)
def test_whoever_comes_goes_and_is_late(
    seed: int, happens: list[tuple[str, float]], late_seconds: float
) -> None:
    chance, limit = random.Random(seed), 200 * MB
    job = HeldJob(limit, seed, late_seconds=late_seconds)
    job.join(rate=2 * limit)
    for what, seconds in happens:
        heard = [worker for worker in job.workers if worker.heard]
        if what == "join":
            job.join(rate=chance.choice([0.05, 0.3, 2.0]) * limit)
        elif heard and what == "end" and len(heard) > 1:
            job.end(chance.choice(heard))
        elif heard and what == "lose" and len(heard) > 1:
            job.lose(chance.choice(heard))
        elif heard and what in ("slow", "fast"):
            chance.choice(heard).rate = (0.02 if what == "slow" else 2.0) * limit
        job.play(seconds)
    # Those who were not seen to end keep their shares for so long.
    job.join(rate=2 * limit, streams=8)
    job.play(TIMEOUT_SECONDS + 45)
    assert max(job.windows()) <= 1.05 * limit
    assert min(job.windows(last_seconds=20)) >= 0.95 * limit


@settings(max_examples=50, deadline=None)
@given(st.floats(1.0, 1e12), st.dictionaries(st.text(max_size=3), st.floats(0.0, 1e12), max_size=9))
def test_all_of_the_rate_is_shared_out(rate: float, wants: dict[str, float]) -> None:
    for more in ({}, {"greedy": math.inf}):
        wants |= more
        split = fair_shares(rate, wants)
        assert split.keys() == wants.keys()
        if wants:
            assert sum(split.values()) == pytest.approx(rate)
            assert min(split.values()) >= 0.99 * FLOOR * rate / len(wants)
            assert max(split.values()) <= max(1.01 * split.get("greedy", math.inf), 1.0)


def test_without_a_limit_nobody_is_told_anything() -> None:
    budget = BandwidthBudget(lambda: math.inf)
    budget.join("a")
    assert budget.start == math.inf
    budget.hear("a", BandwidthUse(seconds=1.0))
    assert budget.decide(1.0) == {}
    assert not budget.holds


def window(in_flight: float, filling: float) -> Window:
    """A second in which so many transfers fill the limit; all others wait."""
    held = max(0.0, in_flight - filling)
    return Window(
        seconds=1.0,
        transfers=min(in_flight, filling),
        bytes=min(in_flight, filling) * 16 * MB,
        transfer_seconds=in_flight,
        held_seconds=held,
        requests=10.0,
    )


@pytest.mark.parametrize("filling", [0.5, 3.0, 20.0, 60.0])
def test_the_search_keeps_as_few_transfers_as_fill_the_limit(filling: float) -> None:
    search = TransferSearch(64, 65_536)
    for _ in range(200):
        search.hear(window(search.number, filling))
    assert filling <= search.number <= max(1, 2 * filling + 1)


def test_the_search_goes_on_once_nothing_is_held() -> None:
    search = TransferSearch(64, 65_536)
    for _ in range(60):
        search.hear(window(search.number, 2.0))
    few = search.number
    for _ in range(60):
        search.hear(window(search.number, 1000.0))
    assert few <= 5
    assert search.number >= 256


def test_one_that_waited_once_and_has_idled_since_leaves_its_share() -> None:
    budget = BandwidthBudget(lambda: 100 * MB)
    told = dict.fromkeys(("busy", "idle"), 0.0)
    for name in told:
        budget.join(name)
    for second in range(1, 121):
        waited = min(second, 3.0)
        told |= {name: s.bytes_per_second for name, s in budget.decide(second).items()}
        used = {"busy": 60 * MB * second, "idle": 0}
        for name, share in told.items():
            at_work = second if name == "busy" else waited
            held = second / 2 if name == "busy" else waited
            use = BandwidthUse(
                share=share,
                seconds=second,
                used_bytes=int(used[name]),
                transfer_seconds=4.0 * at_work,
                held_seconds=4.0 * held,
            )
            budget.hear(name, use)
    assert told["busy"] >= 0.9 * 100 * MB
