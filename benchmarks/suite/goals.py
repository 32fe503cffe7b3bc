"""What Noria has to reach, and whether it did: each goal as a ratio or a rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from noria.benchmarks.measure.spread import Spread, paired_ratios, spread_of
from noria.benchmarks.suite.peers import (
    AS_THEY_COME,
    CLUSTER_NORIA,
    JUICEFS,
    MSC,
    NORIA,
    PEERS,
    RCLONE,
    RCLONE_PARTS,
    RCLONE_WHOLE,
)
from noria.benchmarks.suite.rounds import Contest, Measure, ToolRun
from noria.benchmarks.suite.workloads import GB, MIB

LOOP = "C loop"
SHORT = "-short"
"""Ends the name of the same workload with fewer bytes."""

MEMORY_ALLOWANCE_BYTES = 64 * MIB
MEMORY_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One figure that is asked for."""

    workload: str
    what: str
    wanted: str
    limit: float
    at_most: bool
    value: Spread | None
    """None if it could not be measured."""
    note: str = ""
    digits: int = 2
    counts: bool = True
    """False for figures that are shown beside a goal and asked of nobody."""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        median = self.value.median
        return median <= self.limit if self.at_most else median >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class DistantGoals:
    """What Noria as it comes has to reach over a distance, on one kind of work."""

    over_best: float
    """The speed of the fastest peer with its best flags, times this."""
    over_as_they_come: float
    """The same without any flag."""
    full_line_will_do: bool = False
    """Instead of the first: where the line is the limit of both, nobody can be faster."""
    cpu: float | None = None
    """Over that of the cheapest peer, whatever it checks."""
    cpu_of_trusting: tuple[float, float] | None = None
    """Over that of the cheapest peer that checks nothing: http, https."""
    cpu_of_checking: float | None = None
    """Over that of the cheapest peer that checks something."""


DISTANT_GOALS: Mapping[str, DistantGoals] = {
    "bulk": DistantGoals(
        over_best=1.0,
        over_as_they_come=1.5,
        full_line_will_do=True,
        cpu_of_trusting=(0.9, 1.0),
        cpu_of_checking=0.5,
    ),
    "huge": DistantGoals(over_best=1.0, over_as_they_come=1.5, full_line_will_do=True),
    "small": DistantGoals(over_best=1.5, over_as_they_come=3.0, cpu=0.7),
    "mixed": DistantGoals(over_best=1.2, over_as_they_come=2.0),
}
"""By the kind of a workload's objects."""
FULL_LINE = 0.95
"""Of what the line carries, from the first byte of the run to its end."""


def at_most(limit: float, workload: str, what: str, value: Spread | None, **more: object) -> Goal:
    return Goal(
        workload=workload,
        what=what,
        wanted=f"<= {limit:.2f}",
        limit=limit,
        at_most=True,
        value=value,
        **more,  # type: ignore[arg-type]  # note and counts
    )


def at_least(limit: float, workload: str, what: str, value: Spread | None, **more: object) -> Goal:
    return Goal(
        workload=workload,
        what=what,
        wanted=f">= {limit:.2f}",
        limit=limit,
        at_most=False,
        value=value,
        **more,  # type: ignore[arg-type]  # note and counts
    )


def cpu_per_gb(run: ToolRun) -> float:
    return run.cpu_seconds_per_gb


def cpu_per_object(run: ToolRun) -> float:
    return run.cpu_microseconds_per_object


def objects_per_second(run: ToolRun) -> float:
    return run.objects_per_second


def wall_seconds(run: ToolRun) -> float:
    return run.usage.wall_seconds


def bytes_per_second(run: ToolRun) -> float:
    return run.bytes / run.usage.wall_seconds


def per_core(run: ToolRun) -> float:
    return run.gigabytes_per_core_second


def best_of(
    contest: Contest, names: Sequence[str], measure: Measure, *, lowest: bool
) -> str | None:
    """The tool with the best median; None if none of them has a valid run."""
    medians = {
        name: found.median
        for name in names
        if (found := spread_of(contest.by_round(name, measure).values())) is not None
    }
    if not medians:
        return None
    return (min if lowest else max)(medians, key=lambda name: medians[name])


def ratio(contest: Contest, mine: str, other: str | None, measure: Measure) -> Spread | None:
    if other is None:
        return None
    return paired_ratios(contest.by_round(mine, measure), contest.by_round(other, measure))


def check_goals(contests: Mapping[str, Contest], bytes_in_flight: int) -> list[Goal]:
    """The goals of every workload that was run."""
    goals: list[Goal] = []
    if "bulk" in contests:
        goals += _bulk_goals(contests["bulk"])
        goals.append(_memory_goal(contests["bulk"], bytes_in_flight))
    if "bulk-https" in contests:
        goals += _bulk_https_goals(contests["bulk-https"])
    for name in ("small", "null-small"):
        if name in contests:
            goals += _small_goals(contests[name])
    for name in ("mixed", "null-mixed"):
        if name in contests:
            goals += _mixed_goals(contests[name])
    for name, per_core_wanted in (("null-bulk", 1.2), ("null-bulk-https", 0.6)):
        if name in contests:
            goals += _null_goals(contests[name], contests[name + SHORT], per_core_wanted)
    for contest in contests.values():
        if contest.workload.route is not None and contest.workload.kind in DISTANT_GOALS:
            goals += _distant_goals(contest, DISTANT_GOALS[contest.workload.kind])
    return goals


def _bulk_goals(contest: Contest) -> Iterator[Goal]:
    yield at_most(
        0.60,
        "bulk",
        f"CPU s/GB over {JUICEFS}",
        ratio(contest, NORIA, JUICEFS, cpu_per_gb),
    )
    yield from _over_rclone(contest, 0.25)


def _bulk_https_goals(contest: Contest) -> Iterator[Goal]:
    yield from _over_rclone(contest, 0.45)


def _over_rclone(contest: Contest, limit: float) -> Iterator[Goal]:
    """Over its best flags, which is the goal; and over how it sends large objects by default."""
    workload = contest.workload.name
    best = best_of(contest, [RCLONE_WHOLE, RCLONE_PARTS], cpu_per_gb, lowest=True)
    yield at_most(
        limit,
        workload,
        "CPU s/GB over rclone's, best flags",
        ratio(contest, NORIA, best, cpu_per_gb),
        note=f"best: {best}",
    )
    yield at_most(
        limit,
        workload,
        f"CPU s/GB over {RCLONE_PARTS}",
        ratio(contest, NORIA, RCLONE_PARTS, cpu_per_gb),
        counts=False,
    )


def _small_goals(contest: Contest) -> Iterator[Goal]:
    peers = [RCLONE, JUICEFS, MSC]
    workload = contest.workload.name
    cheapest = best_of(contest, peers, cpu_per_object, lowest=True)
    fastest = best_of(contest, peers, objects_per_second, lowest=False)
    for name, counts in ((NORIA, True), (CLUSTER_NORIA, False)):
        if all(one.name != name for one in contest.tools):
            continue
        suffix = "" if counts else ", on a Ray cluster"
        yield at_most(
            0.80,
            workload,
            f"CPU an object over the better peer's{suffix}",
            ratio(contest, name, cheapest, cpu_per_object),
            note=f"better: {cheapest}",
            counts=counts,
        )
        yield at_least(
            1.2,
            workload,
            f"objects/s over the better peer's{suffix}",
            ratio(contest, name, fastest, objects_per_second),
            note=f"better: {fastest}",
            counts=counts,
        )


def _mixed_goals(contest: Contest) -> Iterator[Goal]:
    fastest = best_of(contest, [RCLONE, JUICEFS, MSC], wall_seconds, lowest=True)
    yield at_most(
        0.80,
        contest.workload.name,
        "wall over the best peer's",
        ratio(contest, NORIA, fastest, wall_seconds),
        note=f"best: {fastest}",
    )


def _null_goals(contest: Contest, short: Contest, wanted: float) -> Iterator[Goal]:
    """`short` has fewer bytes, and the C loop."""
    workload = contest.workload.name
    loop = short.by_round(LOOP, cpu_per_gb)
    yield at_least(
        wanted,
        workload,
        "GB for each second of a core",
        spread_of(contest.by_round(NORIA, per_core).values()),
    )
    yield at_most(
        2.0,
        workload,
        f"CPU over the {LOOP}'s",
        paired_ratios(contest.by_round(NORIA, cpu_per_gb), loop),
    )
    marginal = marginal_cpu_per_gb(contest, short, NORIA)
    taken_out = f"{contest.workload.bytes / GB:.1f} GB less {short.workload.bytes / GB:.1f} GB"
    yield at_least(
        wanted,
        workload,
        "GB for each second of a core, start-up taken out",
        spread_of(1 / value for value in marginal.values()),
        note=taken_out,
        counts=False,
    )
    yield at_most(
        2.0,
        workload,
        f"CPU over the {LOOP}'s, start-up taken out",
        paired_ratios(marginal, loop),
        note=taken_out,
        counts=False,
    )


def _distant_goals(contest: Contest, wanted: DistantGoals) -> Iterator[Goal]:
    workload = contest.workload
    peers = [one for one in contest.tools if one.tool in PEERS]
    tuned = [one.name for one in peers if one.name not in AS_THEY_COME]
    for limit, group, words, may_fill_line in (
        (wanted.over_best, tuned, "best flags", wanted.full_line_will_do),
        (wanted.over_as_they_come, AS_THEY_COME, "as it comes", False),
    ):
        fastest = best_of(contest, group, bytes_per_second, lowest=False)
        yield at_least(
            limit,
            workload.name,
            f"speed over the fastest peer's, {words}",
            _speed_over(contest, fastest, limit if may_fill_line else None),
            note=f"fastest: {fastest}" + (", or the line is full" if may_fill_line else ""),
        )
    trusting_limit = wanted.cpu_of_trusting and wanted.cpu_of_trusting[workload.tls]
    for cpu_limit, names, words in (
        (wanted.cpu, [one.name for one in peers], ""),
        (
            trusting_limit,
            [one.name for one in peers if not one.checks_bytes],
            " that checks nothing",
        ),
        (wanted.cpu_of_checking, [one.name for one in peers if one.checks_bytes], " that checks"),
    ):
        if cpu_limit is not None:
            cheapest = best_of(contest, names, cpu_per_gb, lowest=True)
            yield at_most(
                cpu_limit,
                workload.name,
                f"CPU s/GB over the cheapest peer's{words}",
                ratio(contest, NORIA, cheapest, cpu_per_gb),
                note=f"cheapest: {cheapest}",
            )


def _speed_over(contest: Contest, other: str | None, full_line: float | None) -> Spread | None:
    """How many times as fast as `other` Noria is; at least `full_line` in a round that fills it."""
    if other is None:
        return None
    theirs = contest.by_round(other, bytes_per_second)
    mine = contest.by_round(NORIA, bytes_per_second)
    times = {number: mine[number] / theirs[number] for number in mine.keys() & theirs.keys()}
    route = contest.workload.route
    line = None if route is None else route.line
    if full_line is not None and line is not None:
        for number in times:
            if mine[number] >= FULL_LINE * line:
                times[number] = max(times[number], full_line)
    return spread_of(times.values())


def marginal_cpu_per_gb(contest: Contest, short: Contest, name: str) -> dict[int, float]:
    """What each further GB costs, by round: the difference of two sizes, start-up cancelled."""
    gigabytes = (contest.workload.bytes - short.workload.bytes) / GB
    long = {run.round: run.usage.cpu_seconds for run in contest.valid(name)}
    brief = {run.round: run.usage.cpu_seconds for run in short.valid(name)}
    return {
        number: (long[number] - brief[number]) / gigabytes
        for number in sorted(long.keys() & brief.keys())
        if long[number] > brief[number]
    }


def _memory_goal(contest: Contest, bytes_in_flight: int) -> Goal:
    limit = MEMORY_ALLOWANCE_BYTES + MEMORY_FACTOR * bytes_in_flight
    return Goal(
        workload="bulk",
        what="peak RSS of all processes, MiB",
        wanted=f"<= {limit / MIB:,.0f}",
        limit=limit / MIB,
        at_most=True,
        value=spread_of(run.usage.peak_rss_bytes / MIB for run in contest.valid(NORIA)),
        digits=0,
        note=f"64 MiB + 2 x {bytes_in_flight / MIB:,.0f} MiB in flight",
    )
