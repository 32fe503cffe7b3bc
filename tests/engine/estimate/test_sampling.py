"""The constants that a probe finds: from the times of its samples."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from noria.engine.estimate.probe import (
    LOAD_SECONDS,
    SAMPLE_BYTES,
    SMALL_OBJECTS,
    DrawnSample,
    SampleRun,
    draw_samples,
    fitted_model,
)
from noria.engine.estimate.rates import TRANSFER_BYTES
from noria.manifests.manifest.freeze import freeze
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import PUT_BYTES
from noria.manifests.plan.providers import MIB, known_name_rules, limits_for
from noria.workers.stores.inspection import Protection
from noria.workers.stores.local.store import LocalStore
from tests.engine.estimate.test_forecasts import said
from tests.support.rows import inventory

START_SECONDS = 2


def moved(rate: float, price: float, objects: int, size: int) -> tuple[SampleRun, SampleRun]:
    """An eighth of a sample, and all of it, if a transfer costs `price` bytes."""
    return (
        run_of(rate, price, objects // 8, size, plan_seconds=1),
        run_of(rate, price, objects, size, plan_seconds=0),
    )


def run_of(rate: float, price: float, objects: int, size: int, *, plan_seconds: int) -> SampleRun:
    sample = DrawnSample(keys=["k"] * objects, bytes=objects * size, transfers=objects)
    seconds = START_SECONDS + (sample.bytes + price * objects) / rate
    return SampleRun(sample=sample, plan_seconds=plan_seconds, run_seconds=seconds)


@pytest.mark.parametrize("price", [0, 50_000, 3_000_000])
def test_two_samples_tell_both_constants(price: float) -> None:
    runs = [moved(2e8, price, 1000, 20_000), moved(2e8, price, 20, 10_000_000)]
    model = fitted_model(runs, workers=4)
    assert model.worker_rate == pytest.approx(5e7)
    assert model.transfer_bytes == pytest.approx(price, abs=1)
    assert model.fixed_seconds == pytest.approx(LOAD_SECONDS + 3)
    assert model.measured == "1,020 objects, 220,000,000 bytes, by 4 workers of this machine"


def test_one_sample_tells_the_rate_alone() -> None:
    model = fitted_model([moved(1e8, TRANSFER_BYTES, 500, 2000)], workers=1)
    assert model.transfer_bytes == TRANSFER_BYTES
    assert model.worker_rate == pytest.approx(1e8)
    assert model.fixed_seconds == pytest.approx(LOAD_SECONDS + 3)


def test_one_object_alone_tells_no_more_than_how_long_it_took() -> None:
    model = fitted_model([(SampleRun(), moved(1e8, 0, 1, 10**9)[1])], workers=1)
    assert model.worker_rate == pytest.approx(10**9 / 12, rel=0.01)
    assert model.fixed_seconds == LOAD_SECONDS


def test_times_that_contradict_each_other_leave_constants_that_are_none_below_zero() -> None:
    slow = moved(1e6, 0, 20, 10_000_000)
    model = fitted_model([moved(1e9, 0, 1000, 1000), slow], workers=1)
    assert model.transfer_bytes >= 0
    assert model.worker_rate > 0
    assert model.fixed_seconds >= 0


def test_samples_are_of_both_sizes_and_no_larger_than_promised(tmp_path: Path) -> None:
    chance = random.Random(3)
    sizes = [chance.choice((0, 10, 500_000, 2_000_000, 30_000_000)) for _ in range(4000)]
    listed = inventory([{"key": f"{n:05}", "size": size} for n, size in enumerate(sizes)])
    odd = inventory([{"key": "line\nfeed", "size": 1}, {"key": "large", "size": 4 * SAMPLE_BYTES}])
    options = PlanOptions(
        limits=limits_for("aws"),
        rules=known_name_rules("aws"),
        part_bytes=16 * MIB,
        put_bytes=PUT_BYTES,
        shard_objects=100,
    )
    manifest = freeze([listed, odd], tmp_path / "manifest", options=options)
    (some_small, small), (some_large, large) = draw_samples(manifest, options)
    for some, every in ((some_small, small), (some_large, large)):
        assert 0 < len(some.keys) <= len(every.keys) / 7
        assert set(some.keys) < set(every.keys)
    assert 300 < len(small.keys) <= SMALL_OBJECTS
    of = {f"{n:05}": size for n, size in enumerate(sizes)}
    for sample in (some_small, small, some_large, large):
        assert sample.bytes == sum(of[key] for key in sample.keys) <= SAMPLE_BYTES
    assert all(of[key] < 1_000_000 for key in small.keys)
    assert all(of[key] >= 1_000_000 for key in large.keys)
    # Spread over the whole manifest: from its first names to its last ones.
    assert min(small.keys) < "00500"
    assert max(small.keys) > "03000"
    assert large.transfers == sum(2 if of[key] == 30_000_000 else 1 for key in large.keys)


def test_nothing_stays_at_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, temporary = (tmp_path / name for name in ("source", "target", "tmp"))
    for folder in (source, target, temporary):
        folder.mkdir(mode=0o700)
    for number in range(20):
        (source / f"{number}").write_bytes(b"x" * 1000 * number)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    out = said(0, source, target, "--workers", "1", "--probe")
    assert "measured: 20 objects, 190,000 bytes, by 1 worker of this machine" in out
    assert list(target.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_a_target_that_is_missing_is_not_made_for_a_sample(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "above" / "target"
    source.mkdir()
    (source / "one").write_bytes(b"1")
    assert "is missing" in said(2, source, target, "--probe")
    assert not (tmp_path / "above").exists()


def left_by_an_estimate(target: Path, token: str, days: float) -> Path:
    """The folder that an estimate has left there so long ago."""
    place = target / f".noria-probe-{token}"
    (place / "estimate").mkdir(parents=True)
    (place / "estimate/one").write_bytes(b"1")
    at = time.time() - days * 86_400
    os.utime(place / "estimate", (at, at))
    return place


def test_an_estimate_leaves_those_alone_that_are_at_work(tmp_path: Path) -> None:
    source, target, elsewhere = (tmp_path / name for name in ("source", "target", "elsewhere"))
    for folder in (source, target, elsewhere):
        folder.mkdir()
    (source / "one").write_bytes(b"1")
    at_work = left_by_an_estimate(target, "0" * 12, 0.9)
    left_by_an_estimate(target, "1" * 12, 1.1)
    others = left_by_an_estimate(target, "not-ours", 9)
    kept = left_by_an_estimate(elsewhere, "2" * 12, 9)
    link = target / kept.name
    link.symlink_to(kept)
    said(0, source, target, "--workers", "1", "--probe")
    assert set(target.iterdir()) == {at_work, others, link}
    assert (at_work / "estimate/one").exists()
    assert (kept / "estimate/one").exists()


def test_what_cannot_be_removed_is_said_and_nothing_is_written_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def refused(path: Path, ignore_errors: bool = False) -> None:
        if Path(path) == left:
            raise PermissionError(errno.EACCES, "Permission denied")
        rmtree(path, ignore_errors)

    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (source / "one").write_bytes(b"1")
    left = left_by_an_estimate(target, "0" * 12, 9)
    monkeypatch.setattr("noria.engine.estimate.probe.shutil.rmtree", refused)
    assert "cannot be removed (Permission denied)" in said(2, source, target, "--probe")
    assert list(target.iterdir()) == [left]


def test_a_target_that_does_not_say_whether_it_keeps_versions_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (source / "one").write_bytes(b"1")
    monkeypatch.setattr(LocalStore, "protection", lambda store: Protection())
    assert "stay there as old versions" in said(0, source, target, "--workers", "1", "--probe")


def test_a_target_that_keeps_what_is_deleted_gets_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (source / "one").write_bytes(b"1")
    monkeypatch.setattr(LocalStore, "protection", lambda store: Protection(versioned=True))
    assert "the target keeps what is deleted" in said(2, source, target, "--probe")
    assert list(target.iterdir()) == []
