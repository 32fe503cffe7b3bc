"""What may be in flight, and read each second, is of the whole run, whoever works for which."""

from __future__ import annotations

import math

import pytest

from noria.engine.config.jobfile import RunConfig
from noria.engine.fleet.budgets import RESTING_SECONDS, START, RunBudgets
from noria.manifests.model import (
    BandwidthShare,
    BandwidthUse,
    Limits,
    MetricsSnapshot,
    WorkerReport,
)
from tests.support.limits import limits_of

LIMIT = 10_000_000.0


class BudgetsClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Workers:
    """Workers that read as much as they may, and put in force what they are told."""

    def __init__(self, run: RunConfig) -> None:
        self.clock = BudgetsClock()
        self.budgets = RunBudgets(limits_of(run), clock=self.clock)
        self.shares: dict[str, float] = {}
        self.limits: dict[str, Limits] = {}
        self.used: dict[str, float] = {}
        self.since: dict[str, float] = {}

    def join(self) -> str:
        key, begins = self.budgets.join()
        assert begins.limits is not None
        self.shares[key], self.limits[key] = begins.bandwidth, begins.limits
        self.used[key], self.since[key] = 0.0, self.clock.now
        return key

    def leave(self, key: str) -> None:
        self.budgets.leave(key)
        del self.shares[key], self.limits[key]

    def pass_time(self, seconds: float) -> None:
        """A second each time: every worker reads, reports, and hears what is decided."""
        for _ in range(round(seconds)):
            self.clock.now += 1.0
            for key, share in self.shares.items():
                self.used[key] += 0.0 if math.isinf(share) else share
                self.budgets.hear(key, self.report(key))
                for told in self.budgets.news(key):
                    if isinstance(told, BandwidthShare):
                        self.shares[key] = told.bytes_per_second
                    else:
                        assert isinstance(told, Limits)
                        self.limits[key] = told
                assert sum(self.shares.values()) <= LIMIT * 1.0001 or math.isinf(share)

    def report(self, key: str) -> WorkerReport:
        seconds = self.clock.now - self.since[key]
        use = BandwidthUse(
            seconds=seconds,
            used_bytes=self.used[key],
            transfer_seconds=4 * seconds,
            held_seconds=2 * seconds,
            share=self.shares[key],
        )
        return WorkerReport(
            worker=key,
            incarnation=key,
            progress=(),
            results=(),
            metrics=MetricsSnapshot(),
            bandwidth=use,
        )


def test_a_bandwidth_is_never_given_twice_while_workers_go_from_one_to_the_next() -> None:
    workers = Workers(RunConfig(bandwidth=LIMIT))
    first, second = workers.join(), workers.join()
    workers.pass_time(6)
    assert sum(workers.shares.values()) == pytest.approx(LIMIT, rel=0.05)
    for _ in range(10):
        workers.leave(second)
        workers.clock.now += 0.3
        second = workers.join()
        assert sum(workers.shares.values()) <= LIMIT
        # The next one goes on with what that one had: it need not wait for its first share.
        assert workers.shares[second] > LIMIT / 10
        workers.pass_time(2)
    workers.leave(first)
    workers.pass_time(RESTING_SECONDS + 4)
    assert workers.shares[second] == pytest.approx(LIMIT, rel=0.05)


def test_a_third_worker_gets_its_share_from_the_others() -> None:
    workers = Workers(RunConfig(bandwidth=LIMIT))
    keys = [workers.join(), workers.join()]
    workers.pass_time(6)
    keys.append(workers.join())
    assert workers.shares[keys[2]] == 0.0
    workers.pass_time(20)
    for key in keys:
        assert workers.shares[key] == pytest.approx(LIMIT / 3, rel=0.2)


def test_a_number_of_transfers_is_of_all() -> None:
    workers = Workers(RunConfig(transfers=30, source_requests=12))
    for _ in range(3):
        workers.join()
    workers.pass_time(3)
    assert sum(each.transfers for each in workers.limits.values()) == 30
    assert sum(each.source for each in workers.limits.values()) == 12


def test_without_limits_it_starts_in_the_middle_and_any_bandwidth_is_free() -> None:
    workers = Workers(RunConfig())
    key = workers.join()
    assert workers.shares[key] == math.inf
    assert workers.limits[key].transfers == START
    assert (workers.budgets.bandwidth, workers.budgets.holds) == (None, False)


def test_one_that_has_gone_hears_nothing() -> None:
    workers = Workers(RunConfig(bandwidth=LIMIT))
    key = workers.join()
    report = workers.report(key)
    workers.leave(key)
    workers.budgets.hear(key, report)
    assert workers.budgets.news(key) == []
    workers.budgets.leave(key)
