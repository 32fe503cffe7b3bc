"""How much memory a plan or a join is given."""

from __future__ import annotations

import pytest

from noria.manifests import memory
from noria.manifests.errors import JobDirectoryError
from noria.manifests.memory import (
    LEAST_BYTES,
    PLAN_BYTES,
    RANGE_BYTES,
    RANGE_COPIES,
    machine_bytes,
    out_of_core_bytes,
    plan_threads,
)

GIB = 1 << 30


def test_small_jobs_have_enough() -> None:
    assert out_of_core_bytes(0, "sort") == LEAST_BYTES
    assert out_of_core_bytes(10_000_000, "sort") == LEAST_BYTES


def test_it_grows_by_the_root_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_bytes", lambda: 64 * GIB)
    billion = out_of_core_bytes(10**9, "sort")
    assert billion == pytest.approx(2 * out_of_core_bytes(250_000_000, "sort"), rel=0.01)
    assert billion > 2 * 67_000_000 * 31, "twice what the least merge was measured to take"


def test_a_machine_that_is_too_small_is_told_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "machine_bytes", lambda: GIB)
    with pytest.raises(JobDirectoryError, match=r"1,000,000,000 rows takes 2\.1 GB of memory"):
        out_of_core_bytes(10**9, "sort")


def test_half_of_the_machine_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_bytes", lambda: 6 * GIB)
    assert out_of_core_bytes(10**9, "sort") == 3 * GIB


def test_this_machine_has_some() -> None:
    assert machine_bytes() > 100 << 20


def test_a_plan_takes_fewer_threads_on_a_small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_processors", lambda: 8)
    monkeypatch.setattr(memory, "machine_bytes", lambda: 64 * GIB)
    assert plan_threads() == 8
    each = RANGE_COPIES * RANGE_BYTES
    monkeypatch.setattr(memory, "machine_bytes", lambda: PLAN_BYTES + 3 * each)
    assert plan_threads() == 3
    monkeypatch.setattr(memory, "machine_bytes", lambda: PLAN_BYTES + each - 1)
    with pytest.raises(JobDirectoryError, match=r"to plan takes 1\.1 GB of memory"):
        plan_threads()
