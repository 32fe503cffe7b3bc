"""Which rows a command runs, and how large they are."""

from __future__ import annotations

import contextlib

import pytest

from noria.benchmarks.suite import peers, rows
from noria.benchmarks.suite.__main__ import choose_scales
from noria.benchmarks.suite.goals import check_goals
from noria.benchmarks.suite.rounds import Contest
from noria.benchmarks.suite.rows import FULL, ROWS, Scale, entries_of, run_check
from noria.benchmarks.suite.tools import Ends, rclone
from noria.benchmarks.suite.workloads import Kind, Route, Workload, distant
from tests.support.fake_runs import contest
from tests.support.null_objects import needs_compiler


class NoTestBed:
    """None that anything runs on."""

    def fresh_ends(self) -> contextlib.AbstractContextManager[Ends]:
        raise NotImplementedError

    def arrived(self, ends: Ends) -> tuple[int, int]:
        raise NotImplementedError


def test_the_short_suite_meets_real_servers_for_a_check_alone() -> None:
    chosen = choose_scales(None, full=False)
    assert "check" in chosen
    assert all(name.startswith(("null-", "road-", "check")) for name in chosen)


def test_the_full_suite_has_every_other_row_at_its_full_size() -> None:
    chosen = choose_scales(None, full=True)
    assert set(chosen) == set(ROWS) - {"check"}
    assert chosen["small"] == FULL


def test_a_row_that_is_named_is_run_at_the_size_that_it_has() -> None:
    assert choose_scales(["bulk", "null-small"], full=False) == {
        "null-small": ROWS["null-small"].brief,
        "bulk": FULL,
    }
    assert choose_scales(["check"], full=True) == {"check": ROWS["check"].brief}


def test_side_tools_take_part_in_the_first_rounds_only() -> None:
    workload = Workload(name="w", kind="bulk", title="w", objects=(("a", 1),))
    scale = Scale(rounds=3, share=1.0, side_rounds=1)
    tools = [*peers.large_object_tools(), *peers.tools_as_they_come()]
    entries = entries_of(workload, NoTestBed(), tools, scale)
    everywhere = {entry.tool.name for entry in entries if entry.rounds is None}
    assert everywhere == {peers.NORIA, peers.RCLONE_WHOLE, peers.JUICEFS}
    assert {entry.rounds for entry in entries} == {None, 1}


def test_no_goal_is_checked_where_the_run_is_too_short_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(make: object, tools: object, scale: Scale) -> list[Contest]:
        assert callable(make)
        return [contest(make(scale.share))]

    monkeypatch.setattr(rows, "run_real", run)
    names = [one.workload.name for one in run_check(Scale(rounds=1, share=0.01))]
    assert names == ["small-check", "bulk-https-check", "mixed-check"]


def test_the_road_is_met_at_both_distances_by_each_kind_of_work() -> None:
    names = {name for name in ROWS if name.startswith("road-")}
    assert len(names) == 4 * 2 * 2
    brief = {name for name in choose_scales(None, full=False) if name.startswith("road-")}
    assert names - brief == {
        f"road-{kind}-{trip}ms-https" for kind in ("huge", "small", "mixed") for trip in (20, 80)
    }


@pytest.mark.parametrize("kind", ["bulk", "huge", "small", "mixed"])
def test_a_distant_workload_is_named_like_its_row(kind: Kind) -> None:
    route = Route(round_trip_ms=80, rate=4e7, line=4e8)
    assert distant(kind, route, tls=True).name == f"road-{kind}-80ms-https"
    whole, half = distant(kind, route, tls=False), distant(kind, route, tls=False, share=0.5)
    assert whole.bytes == pytest.approx(2 * half.bytes, rel=0.01)
    assert whole.name in ROWS


@needs_compiler
@pytest.mark.slow
def test_peers_meet_on_a_road_and_goals_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what `make setup` brings, and few bytes."""
    monkeypatch.setattr(rows, "best_peers", lambda kind: [peers.large_object_tools()[1]])
    monkeypatch.setattr(
        peers, "tools_as_they_come", lambda: [rclone([], name="rclone as it comes")]
    )
    scale = Scale(rounds=1, share=0.01)
    [met] = rows.run_distant(scale, kind="small", round_trip_ms=20)
    assert [len(met.valid(tool.name)) for tool in met.tools] == [1, 1, 1]
    assert len(met.workload.objects) == 200
    goals = check_goals({met.workload.name: met}, 0)
    assert len(goals) == 3
    assert all(goal.value is not None for goal in goals)
