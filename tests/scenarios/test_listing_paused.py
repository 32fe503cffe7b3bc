"""A pause, and limits a second, while a source or a target is listed, or all is verified.

What the stores count is what is judged.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from noria.benchmarks.null.road import run_road
from noria.benchmarks.null.stores import NullSource, run_null_sink, run_null_source
from noria.engine.config.jobfile import EndConfig, RunConfig
from noria.engine.config.stores import open_end
from noria.engine.job import status
from noria.engine.job_state import job_state
from noria.engine.listing_pace import ListingPace
from noria.engine.status import JobStatus, Phase
from noria.manifests.counters import StoreRole
from noria.workers.runtime.bandwidth import Bandwidth
from noria.workers.stores.listing import Listing, ListingShare
from noria.workers.stores.protocol import SourceStore
from tests.support.moves import NORIA
from tests.support.null_objects import needs_compiler
from tests.support.processes import wait_until

pytestmark = needs_compiler

OBJECTS = 60_000
PAGE = 5_000
"""Names of a page of Azure."""
FOLLOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A job whose source takes a while to list."""

    source: NullSource
    folder: Path
    environment: dict[str, str]

    @property
    def root(self) -> Path:
        return self.folder / "job"

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [NORIA, *arguments],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def noria(self, *arguments: str) -> str:
        process = self.begin(*arguments)
        out, said = process.communicate(timeout=100)
        assert process.returncode == 0, (out, said)
        return out

    def status(self) -> JobStatus | None:
        return status(self.root) if (self.root / "job.json").exists() else None

    def requests(self) -> int:
        """Requests of the source so far."""
        return self.source.seconds()[-1].requests


@contextmanager
def listed_job(folder: Path, *, delay_ms: float) -> Iterator[ListedJob]:
    names = ((f"{number:06}", 7) for number in range(OBJECTS))
    with (
        run_null_source(names) as source,
        run_null_sink() as sink,
        run_road(source.port, delay_ms=delay_ms) as road,
    ):
        environment = {**os.environ, **source.through(road.port).env(), **sink.env()}
        (folder / "job.toml").write_text(
            f'[source]\nurl = "{source.url}"\n[target]\nurl = "{sink.url}"\n'
            f'[inventory]\nlisting_streams = 1\n[run]\nmetrics_address = "off"\n'
        )
        yield ListedJob(source=source, folder=folder, environment=environment)


def stands_still(count: Callable[[], int], seconds: float) -> bool:
    before = count()
    time.sleep(seconds)
    return count() == before


@pytest.mark.timeout(120)
def test_a_plan_that_lists_is_paused_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with listed_job(tmp_path, delay_ms=500) as job:
        plan = job.begin("plan", "job.toml")
        wait_until(lambda: (now := job.status()) is not None and now.listed > 0, "a first page")
        asked = time.monotonic()
        said = job.noria("pause", "job", "--reason", "a backup")
        assert "paused (control/000001.json); the driver heeds it" in said
        wait_until(lambda: stands_still(job.requests, 2.5), "no requests any more")
        assert time.monotonic() - asked - 2.5 < FOLLOW_SECONDS
        assert stands_still(job.requests, 3.0)
        now = job.status()
        assert now is not None
        assert (now.phase, job_state(now).state) == (Phase.PLANNING, "paused")
        assert 0 < now.listed < OBJECTS
        told = job.noria("status", "job")
        assert "(a backup): nothing new is begun" in told.splitlines()[0]
        assert f"{now.listed:,} listed at the source so far" in told
        assert plan.poll() is None

        job.noria("resume", "job")
        later = [now.listed]
        while plan.poll() is None:
            told_now = job.status()
            if told_now is not None and told_now.listed:
                later.append(told_now.listed)
            time.sleep(0.2)
        assert later == sorted(later), "it goes on from where it was"
        out, err = plan.communicate(timeout=60)
        assert plan.returncode == 0, (out, err)
        assert "paused by" in err
        assert "resumed" in err
        facts = json.loads((job.root / "manifest" / "manifest.json").read_text())
        assert (facts["objects"], facts["inventory"]["duplicates"]) == (OBJECTS, 0)
        assert not (job.root / "plan-status.json").exists()


@pytest.mark.timeout(120)
def test_a_plan_that_is_paused_can_be_drained_and_made_again(tmp_path: Path) -> None:
    with listed_job(tmp_path, delay_ms=500) as job:
        plan = job.begin("plan", "job.toml")
        wait_until(lambda: (now := job.status()) is not None and now.listed > 0, "a first page")
        job.noria("pause", "job")
        job.noria("drain", "job")
        out, err = plan.communicate(timeout=30)
        assert plan.returncode == 3, (out, err)
        assert "drained on request of" in err
        again = job.begin("plan", "job.toml")
        wait_until(
            lambda: (now := job.status()) is not None and now.paused is not None,
            "a plan that is paused from its beginning",
        )
        assert again.poll() is None
        job.noria("resume", "job")
        out, err = again.communicate(timeout=60)
        assert again.returncode == 0, (out, err)


def test_requests_a_second_count_for_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_second = 3.0
    run = RunConfig(source_requests_per_second=per_second)
    with (
        null_store(monkeypatch) as store,
        ListingPace(tmp_path / "job", run, StoreRole.SOURCE) as pace,
    ):
        began = time.monotonic()
        with Listing(store, "", streams=2, pace=pace.share) as listing:
            assert sum(batch.num_rows for batch in listing) == OBJECTS
        pages = pace.share.requests.use().used_bytes
        assert pages >= OBJECTS // PAGE
        assert time.monotonic() - began >= (pages - 1) / per_second * 0.95


@pytest.mark.timeout(120)
def test_a_reconcile_and_a_verification_are_paused_too(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(50):
        (source / f"{number}").write_bytes(b"%d" % number * 1000)

    def noria(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [NORIA, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def done(*arguments: str) -> str:
        process = noria(*arguments)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
        return out

    done("copy", str(source), str(target), "--job", "job", "--metrics-address", "off")
    for command, phase in (("run", Phase.RECONCILING), ("verify", Phase.VERIFYING)):
        done("pause", "job")
        held = noria(command, "job", "--metrics-address", "off")

        def is_paused(phase: Phase = phase) -> bool:
            now = status(tmp_path / "job")
            return (now.phase, job_state(now).state) == (phase, "paused")

        wait_until(is_paused, f"{command} is paused")
        time.sleep(2.5)
        assert is_paused()
        assert held.poll() is None
        assert "resumed (control/" in done("resume", "job")
        out, _ = held.communicate(timeout=60)
        assert held.returncode == 0, out
    done("pause", "job")
    reconcile = noria("reconcile", "job")
    time.sleep(4)
    assert reconcile.poll() is None
    done("resume", "job")
    out, _ = reconcile.communicate(timeout=60)
    assert reconcile.returncode == 0, out


def test_a_bandwidth_counts_for_the_pages_of_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    rate = 5e6
    share = ListingShare(bandwidth=Bandwidth(rate))
    with null_store(monkeypatch) as store:
        began = time.monotonic()
        with Listing(store, "", streams=2, pace=share) as listing:
            assert sum(batch.num_rows for batch in listing) == OBJECTS
        used = share.bandwidth.use().used_bytes
        assert used > 100 * OBJECTS, "each name takes more than that in a page"
        assert time.monotonic() - began >= used / rate * 0.9


@contextmanager
def null_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceStore]:
    with run_null_source((f"{number:06}", 7) for number in range(OBJECTS)) as source:
        for name, value in source.env().items():
            monkeypatch.setenv(name, value)
        with closing(open_end(EndConfig(url=source.url), read_only=True)) as store:
            yield store
