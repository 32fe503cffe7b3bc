"""What the runs of `noria bench` say about each setting, and which one to choose. Pure.

Noise is what the repeats of one setting show: the range from its lowest run to its highest. A
setting is as good as the best one if its median lies within the best one's range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from noria.benchmarks.measure.spread import Spread, spread_of

GB = 1e9

Labels = Mapping[str, str]
"""Swept setting -> its value, as the user wrote it."""


def setting_text(labels: Labels) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items())


class Ended(StrEnum):
    WELL = "well"
    FAILED = "failed"
    STOPPED = "stopped"
    """The user stopped the bench meanwhile: no word on the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRun:
    """One transfer under one setting. Its fields are columns of runs.parquet."""

    round: int
    """From 1; 0 is the warm-up, which is not counted."""
    ended: Ended
    exit_code: int
    """Of `noria run`; negative: the number of the signal that ended it."""
    cause: str = ""
    """Why it did not end well; without names of objects."""
    wall_seconds: float = 0.0
    """Of the whole command: with the start of the workers, and the reconciliation."""
    move_seconds: float = 0.0
    """From the moment that the first worker was asked for until everything had landed."""
    bytes: int = 0
    objects: int = 0
    """That landed."""
    cpu_seconds: float = 0.0
    """User and system time of the whole command, as the operating system counts it."""
    driver_cpu_seconds: float = 0.0
    workers_cpu_seconds: float = 0.0
    other_cpu_seconds: float = 0.0
    """Processes that are neither, and those that lived too short to be told apart."""
    peak_rss_bytes: int = 0
    """Of the sum over all processes of the command; shared pages count in each."""
    peak_pss_bytes: int = 0
    """The same; shared pages count once."""
    retries: int = 0
    throttles: int = 0
    cpu_scope: str = "all processes"
    """Or "driver only", if the workers run on a cluster that was there before."""
    cpu_method: str = ""

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.move_seconds if self.move_seconds else 0.0

    @property
    def objects_per_second(self) -> float:
        return self.objects / self.move_seconds if self.move_seconds else 0.0

    @property
    def cpu_seconds_per_gb(self) -> float:
        return self.cpu_seconds / (self.bytes / GB) if self.bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSummary:
    """What is known of one setting."""

    labels: Labels
    runs: Sequence[SweepRun]
    """Those that ended well and count, in the order of the rounds."""
    failures: Sequence[SweepRun]
    """Those that failed, the warm-up included."""

    @property
    def usable(self) -> bool:
        """A setting under which a run has failed is not one to choose."""
        return bool(self.runs) and not self.failures

    @property
    def throughput(self) -> Spread:
        return self.spread(lambda run: run.bytes_per_second)

    @property
    def cpu(self) -> Spread:
        """Seconds for each 10^9 bytes."""
        return self.spread(lambda run: run.cpu_seconds_per_gb)

    @property
    def memory(self) -> Spread:
        return self.spread(lambda run: run.peak_rss_bytes)

    def spread(self, measure: Callable[[SweepRun], float]) -> Spread:
        """Only of a setting that has runs."""
        found = spread_of(measure(run) for run in self.runs)
        assert found is not None, "a setting without runs has no spread"
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The setting to take, and how it came to that."""

    chosen: SweepSummary
    fastest: SweepSummary
    """That with the highest median throughput."""
    even: Sequence[SweepSummary]
    """Those as fast as the fastest but for noise, itself included."""
    thrifty: Sequence[SweepSummary]
    """Of the even ones, those that need no more CPU than the least but for noise."""


def summarize(
    labels: Sequence[Labels], runs: Iterable[tuple[Labels, SweepRun]]
) -> list[SweepSummary]:
    """One summary for each setting, in the order given; a setting may have no runs."""
    found = list(runs)
    return [
        SweepSummary(
            labels=wanted,
            runs=[
                run
                for given, run in found
                if given == wanted and run.round and run.ended is Ended.WELL
            ],
            failures=[run for given, run in found if given == wanted and run.ended is Ended.FAILED],
        )
        for wanted in labels
    ]


def choose(summaries: Iterable[SweepSummary], *, whole_cost: bool = True) -> Choice | None:
    """The setting to take: throughput first, then CPU, then memory, each as far as noise allows.

    That is the highest median throughput; among the settings within its noise, the least CPU; among
    those within the noise of that, the least memory; then the one that was given first. None if no
    setting is usable. Without `whole_cost` (CPU and memory are known of a part of the
    processes only) throughput alone decides.
    """
    usable = [summary for summary in summaries if summary.usable]
    if not usable:
        return None
    fastest = max(usable, key=lambda summary: summary.throughput.median)
    if not whole_cost:
        return Choice(chosen=fastest, fastest=fastest, even=[fastest], thrifty=[fastest])
    even = [one for one in usable if one.throughput.median >= fastest.throughput.lowest]
    least = min(even, key=lambda summary: summary.cpu.median)
    thrifty = [one for one in even if one.cpu.median <= least.cpu.highest]
    chosen = min(thrifty, key=lambda summary: summary.memory.median)
    return Choice(chosen=chosen, fastest=fastest, even=even, thrifty=thrifty)
