"""Each goal is computed from the runs that it names, and says whether it is met."""

from __future__ import annotations

from dataclasses import replace

import pytest

from noria.benchmarks.suite.goals import LOOP, SHORT, Goal, check_goals
from noria.benchmarks.suite.peers import (
    JUICEFS,
    MSC,
    NORIA,
    RCLONE,
    RCLONE_AS_IT_COMES,
    RCLONE_PARTS,
    RCLONE_WHOLE,
)
from noria.benchmarks.suite.rounds import Contest
from noria.benchmarks.suite.workloads import GB, MIB, Route, Workload
from tests.support.fake_runs import contest, usage


def one_object(name: str, size: int = GB) -> Workload:
    return Workload(name=name, kind="bulk", title=name, objects=(("object", size),))


def find(goals: list[Goal], what: str) -> Goal:
    """The one that has `what` in its words, at their end if there are several."""
    found = [goal for goal in goals if what in goal.what]
    [goal] = found if len(found) == 1 else [one for one in found if one.what.endswith(what)]
    return goal


def test_bulk_is_measured_against_the_best_flags_of_rclone() -> None:
    runs = contest(
        one_object("bulk"),
        **{
            NORIA: [usage(cpu_seconds=9), usage(cpu_seconds=0.5), usage(cpu_seconds=0.6)],
            RCLONE_WHOLE: [usage(cpu_seconds=9), usage(cpu_seconds=2), usage(cpu_seconds=2)],
            RCLONE_PARTS: [usage(cpu_seconds=9), usage(cpu_seconds=5), usage(cpu_seconds=5)],
            JUICEFS: [usage(cpu_seconds=9), usage(cpu_seconds=1), usage(cpu_seconds=1)],
        },
    )
    goals = check_goals({"bulk": runs}, 32 * MIB)
    over_juicefs = find(goals, JUICEFS)
    assert over_juicefs.value is not None
    assert over_juicefs.value.median == pytest.approx(0.55)
    assert over_juicefs.met is True
    over_best = find(goals, "best flags")
    assert over_best.value is not None
    assert over_best.value.median == pytest.approx(0.275)
    assert over_best.met is False
    assert RCLONE_WHOLE in over_best.note
    assert find(goals, RCLONE_PARTS).counts is False


def test_memory_is_that_of_all_processes() -> None:
    runs = contest(one_object("bulk"), **{NORIA: [usage(), usage(rss_bytes=128 * MIB)]})
    met = find(check_goals({"bulk": runs}, 32 * MIB), "peak RSS")
    assert met.value is not None
    assert (met.value.median, met.limit, met.met) == (128.0, 128.0, True)
    assert find(check_goals({"bulk": runs}, 31 * MIB), "peak RSS").met is False


def test_memory_without_a_valid_run_is_not_measured() -> None:
    runs = contest(one_object("bulk"), **{NORIA: [usage()]})
    assert find(check_goals({"bulk": runs}, 32 * MIB), "peak RSS").met is None


def test_small_takes_the_better_peer_of_each_measure() -> None:
    runs = contest(
        one_object("small"),
        **{
            NORIA: [usage(), usage(cpu_seconds=0.7, wall_seconds=0.8)],
            RCLONE: [usage(), usage(cpu_seconds=3, wall_seconds=1)],
            JUICEFS: [usage(), usage(cpu_seconds=1, wall_seconds=2)],
        },
    )
    goals = [goal for goal in check_goals({"small": runs}, 0) if goal.counts]
    cpu, rate = find(goals, "CPU"), find(goals, "objects/s")
    assert cpu.value is not None
    assert rate.value is not None
    assert cpu.value.median == pytest.approx(0.7)
    assert rate.value.median == pytest.approx(1.25)
    assert (cpu.met, rate.met) == (True, True)
    assert JUICEFS in cpu.note
    assert RCLONE in rate.note


def test_start_up_is_taken_out_by_two_sizes() -> None:
    long = contest(
        one_object("null-bulk", 4 * GB),
        **{
            NORIA: [usage(), usage(cpu_seconds=5), usage(cpu_seconds=7)],
        },
    )
    short = contest(
        one_object("null-bulk" + SHORT),
        **{
            NORIA: [usage(), usage(cpu_seconds=3.5), usage(cpu_seconds=5.5)],
            LOOP: [usage(), usage(cpu_seconds=0.5), usage(cpu_seconds=0.5)],
        },
    )
    goals = check_goals({"null-bulk": long, "null-bulk" + SHORT: short}, 0)
    with_start, without = [goal for goal in goals if "GB for each second" in goal.what]
    assert with_start.value is not None
    assert without.value is not None
    assert with_start.value.median == pytest.approx((4 / 5 + 4 / 7) / 2)
    assert without.value.median == pytest.approx(2.0)
    assert not without.counts
    over_loop, over_loop_without = [goal for goal in goals if LOOP in goal.what]
    assert over_loop.value is not None
    assert over_loop_without.value is not None
    assert over_loop.value.median == pytest.approx(3.0)
    assert over_loop_without.value.median == pytest.approx(1.0)


def test_what_was_not_run_has_no_goals_and_what_failed_is_not_met() -> None:
    assert check_goals({}, 0) == []
    alone = contest(one_object("mixed"), **{NORIA: [usage(), usage()]})
    [goal] = check_goals({"mixed": alone}, 0)
    assert (goal.value, goal.met) == (None, None)


def distant(line: float | None) -> Contest:
    """The line of one GB a second would be full after a second."""
    workload = replace(
        one_object("road-bulk"),
        route=Route(round_trip_ms=20, rate=4e7, line=line),
    )
    runs = contest(
        workload,
        **{
            NORIA: [usage(), usage(cpu_seconds=0.8, wall_seconds=1.02)],
            RCLONE_WHOLE: [usage(), usage(cpu_seconds=1.0, wall_seconds=1.01)],
            MSC: [usage(), usage(cpu_seconds=9.0, wall_seconds=9.0)],
            RCLONE_AS_IT_COMES: [usage(), usage(cpu_seconds=2.0, wall_seconds=2.04)],
        },
    )
    checking = replace(runs.tools[3], proves="MD5")
    return replace(runs, tools=(*runs.tools[:3], checking))


@pytest.mark.parametrize(("line", "met"), [(None, False), (1e9, True), (2e9, False)])
def test_over_a_distance_nobody_has_to_be_faster_than_a_full_line(
    line: float | None, met: bool
) -> None:
    goals = check_goals({"road-bulk": distant(line)}, 0)
    best, untuned = find(goals, "best flags"), find(goals, "as it comes")
    assert (best.met, best.limit) == (met, 1.0)
    assert untuned.value is not None
    assert untuned.value.median == pytest.approx(2.0)
    assert (untuned.met, untuned.limit) == (True, 1.5)
    trusting, checking = find(goals, "that checks nothing"), find(goals, "that checks")
    assert trusting.value is not None
    assert trusting.value.median == pytest.approx(0.8)
    assert trusting.limit == 0.9
    assert checking.value is not None
    assert checking.value.median == pytest.approx(0.4)
    assert checking.limit == 0.5


def test_next_to_each_other_nothing_of_the_distance_is_asked() -> None:
    near = replace(distant(None), workload=one_object("near"))
    assert check_goals({"near": near}, 0) == []
