"""What `noria bench` makes of its runs: the choice, the sample, plots and exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from noria.benchmarks.sweep.choice import Ended, Labels, SweepRun, SweepSummary, choose, summarize
from noria.benchmarks.sweep.ends import SizeClass, share_out
from noria.benchmarks.sweep.plots import CPU, THROUGHPUT, plot
from noria.benchmarks.sweep.report import SweepFindings, job_file_lines, summary, why

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n"
GB = 10**9


# -- the choice ------------------------------------------------------------------------------------


def runs_of(
    speeds: list[float], cpu: list[float] | None = None, memory_bytes: int = 500 * MIB
) -> list[SweepRun]:
    """Runs of 1 GB at these MB/s."""
    cpu = cpu or [1.0] * len(speeds)
    return [
        SweepRun(
            round=number,
            ended=Ended.WELL,
            exit_code=0,
            move_seconds=1000 / speed,
            bytes=GB,
            objects=10,
            cpu_seconds=seconds,
            peak_rss_bytes=memory_bytes,
        )
        for number, (speed, seconds) in enumerate(zip(speeds, cpu, strict=True), start=1)
    ]


def summaries_of(settings: Mapping[str, list[SweepRun]]) -> list[SweepSummary]:
    labels: list[Labels] = [{"streams": name} for name in settings]
    found = [({"streams": name}, run) for name, runs in settings.items() for run in runs]
    return summarize(labels, found)


def chosen(settings: Mapping[str, list[SweepRun]], **options: bool) -> str | None:
    choice = choose(summaries_of(settings), **options)
    return None if choice is None else choice.chosen.labels["streams"]


def test_the_fastest_is_chosen_where_the_noise_is_small() -> None:
    settings = {
        "2": runs_of([80, 81, 82], cpu=[0.1, 0.1, 0.1]),
        "4": runs_of([100, 101, 102], cpu=[0.9, 0.9, 0.9]),
        "8": runs_of([97, 98, 99], cpu=[0.5, 0.5, 0.5]),
    }
    assert chosen(settings) == "4"


def test_within_the_noise_of_the_fastest_the_least_cpu_is_chosen() -> None:
    settings = {
        "2": runs_of([60, 61, 62], cpu=[0.1, 0.1, 0.1]),
        "4": runs_of([80, 90, 95], cpu=[0.5, 0.5, 0.5]),
        "8": runs_of([85, 100, 110], cpu=[0.9, 0.9, 0.9]),
    }
    assert chosen(settings) == "4"


def test_the_noise_that_counts_is_that_of_the_fastest() -> None:
    """A setting with wide runs of its own is not within the narrow ones of the best."""
    settings = {"2": runs_of([50, 98, 140], cpu=[0.1, 0.1, 0.1]), "4": runs_of([99, 100, 101])}
    assert chosen(settings) == "4"


def test_within_the_noise_of_cpu_too_the_least_memory_is_chosen() -> None:
    settings = {
        "2": runs_of([95, 100, 105], cpu=[0.50, 0.52, 0.60], memory_bytes=900 * MIB),
        "4": runs_of([95, 99, 105], cpu=[0.53, 0.55, 0.56], memory_bytes=400 * MIB),
        "8": runs_of([95, 98, 105], cpu=[0.80, 0.81, 0.82], memory_bytes=100 * MIB),
    }
    assert chosen(settings) == "4"
    choice = choose(summaries_of(settings))
    assert choice is not None
    assert [len(choice.even), len(choice.thrifty)] == [3, 2]


def test_of_equals_the_first_is_chosen() -> None:
    assert chosen({"8": runs_of([100, 100]), "2": runs_of([100, 100])}) == "8"


def test_one_run_each_has_no_noise() -> None:
    settings = {"2": runs_of([99.9], cpu=[0.1]), "4": runs_of([100], cpu=[9])}
    assert chosen(settings) == "4"


@pytest.mark.parametrize("round_number", [0, 2])
def test_a_setting_that_failed_once_is_not_chosen_nor_averaged(round_number: int) -> None:
    failed = SweepRun(
        round=round_number, ended=Ended.FAILED, exit_code=1, bytes=GB, move_seconds=1, cause="x"
    )
    settings = {"2": runs_of([50, 51]), "4": [*runs_of([100, 101]), failed]}
    assert chosen(settings) == "2"
    four = summaries_of(settings)[1]
    assert four.throughput.highest == pytest.approx(101e6)
    assert four.failures == [failed]


def test_where_all_failed_nothing_is_chosen() -> None:
    assert chosen({"2": [SweepRun(round=1, ended=Ended.FAILED, exit_code=1)], "4": []}) is None


def test_neither_the_warm_up_nor_a_stopped_run_counts() -> None:
    warm_up = SweepRun(round=0, ended=Ended.WELL, exit_code=0, bytes=GB, move_seconds=1)
    stopped = SweepRun(round=2, ended=Ended.STOPPED, exit_code=3, bytes=GB, move_seconds=1)
    (found,) = summaries_of({"2": [warm_up, *runs_of([50]), stopped]})
    assert [run.round for run in found.runs] == [1]
    assert found.usable


def test_where_only_the_drivers_cpu_is_known_speed_alone_decides() -> None:
    settings = {"2": runs_of([80, 99, 110], cpu=[0.1, 0.1, 0.1]), "4": runs_of([80, 100, 110])}
    assert chosen(settings) == "2"
    assert chosen(settings, whole_cost=False) == "4"
    choice = choose(summaries_of(settings), whole_cost=False)
    assert choice is not None
    assert "not known" in why(choice, whole_cost=False)


def test_the_reasons_name_every_step() -> None:
    settings = {
        "2": runs_of([95, 100, 105], cpu=[0.50, 0.52, 0.60], memory_bytes=900 * MIB),
        "4": runs_of([95, 99, 105], cpu=[0.53, 0.55, 0.56], memory_bytes=400 * MIB),
    }
    choice = choose(summaries_of(settings))
    assert choice is not None
    text = why(choice)
    assert "100 MB/s (95.0 MB/s to 105 MB/s) with streams=2" in text
    assert "0.55 s/GB at 99.0 MB/s with streams=4" in text
    assert "the least memory, 419 MB" in text


def test_the_lines_for_the_job_file_make_that_job() -> None:
    labels = {"streams": "4", "part_bytes": "16MiB", "journal_seconds": "0.5", "chunk_bytes": "4"}
    lines = job_file_lines(labels)
    assert lines == [
        "[plan]",
        'part_bytes = "16MiB"',
        "chunk_bytes = 4",
        "",
        "[run]",
        "streams = 4",
        "journal_seconds = 0.5",
    ]


# -- the sample ------------------------------------------------------------------------------------


def test_a_sample_keeps_the_mix_of_sizes() -> None:
    classes = [
        SizeClass(power=12, objects=100_000, bytes=100_000 * 5000),
        SizeClass(power=20, objects=1000, bytes=1000 * 1_500_000),
        SizeClass(power=28, objects=10, bytes=10 * 300_000_000),
    ]
    takes = share_out(classes, 500_000_000)
    assert takes == {28: 1, 20: 100, 12: 10_000}


def test_the_share_of_huge_objects_goes_to_the_next_smaller_ones() -> None:
    classes = [
        SizeClass(power=40, objects=1, bytes=2**40),
        SizeClass(power=20, objects=1000, bytes=1000 * 2**20),
        SizeClass(power=3, objects=1000, bytes=8000),
    ]
    assert share_out(classes, 100 * 2**20) == {40: 0, 20: 99, 3: 1000}


@pytest.mark.parametrize("limit_bytes", [100, 1000, 12_345, 100_000, 10**6])
def test_a_sample_is_never_larger_than_the_limit(limit_bytes: int) -> None:
    classes = [SizeClass(power=p, objects=99, bytes=99 * 3 * 2**p // 2) for p in range(14)]
    classes.append(SizeClass(power=20, objects=5, bytes=5 * 2**20))
    takes = share_out(classes, limit_bytes)
    taken = sum(takes[one.power] * one.bytes // one.objects for one in classes)
    assert taken <= limit_bytes
    assert all(takes[one.power] <= one.objects for one in classes)
    assert taken > 0.9 * limit_bytes


def test_without_a_limit_below_the_whole_all_is_taken() -> None:
    classes = [SizeClass(power=3, objects=4, bytes=40), SizeClass(power=0, objects=7, bytes=0)]
    assert share_out(classes, 40) == {3: 4, 0: 7}


# -- the plots -------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("streams",), ("streams", "part_bytes"), ("a", "b", "c")])
@pytest.mark.parametrize("repeats", [1, 3])
def test_plots_are_drawn_for_any_number_of_settings(
    tmp_path: Path, names: tuple[str, ...], repeats: int
) -> None:
    labels = [dict.fromkeys(names, value) for value in ("2", "4")]
    found = [(one, run) for one in labels for run in runs_of([50.0, 60.0, 55.0][:repeats])]
    summaries = summarize(labels, found)
    for measure in (THROUGHPUT, CPU):
        path = plot(measure, summaries, labels[0], "1 GB a run", tmp_path)
        assert path is not None
        assert path.read_bytes().startswith(PNG)
        assert path.stat().st_size > 5000


def test_nothing_is_drawn_where_nothing_ended_well(tmp_path: Path) -> None:
    failed = [SweepRun(round=1, ended=Ended.FAILED, exit_code=1)]
    assert plot(CPU, summaries_of({"2": failed}), None, "", tmp_path) is None


def findings_of(summaries: list[SweepSummary], *, stopped: bool = False) -> SweepFindings:
    return SweepFindings(
        output=Path("out"),
        files=[],
        summaries=summaries,
        choice=choose(summaries),
        whole_cost=True,
        planned=2,
        stopped=stopped,
        left=0,
        place="s3://b/",
    )


@pytest.mark.parametrize(
    ("stopped", "failed", "code"), [(0, 0, 0), (0, 1, 1), (1, 0, 3), (1, 1, 3)]
)
def test_what_happened_decides_the_exit_code(stopped: int, failed: int, code: int) -> None:
    failures = [SweepRun(round=2, ended=Ended.FAILED, exit_code=9)] * failed
    found = findings_of(summaries_of({"2": [*runs_of([50]), *failures]}), stopped=bool(stopped))
    assert (found.exit_code, summary(found)["exit_code"]) == (code, code)


def test_noise_that_hides_everything_is_named() -> None:
    def said(speeds: list[float]) -> str:
        return " ".join(summary(findings_of(summaries_of({"2": runs_of(speeds)})))["notes"])

    assert "by a factor of 3.0" in said([1, 2, 3])
    assert "by a factor" not in said([1.0, 1.1, 1.2])
