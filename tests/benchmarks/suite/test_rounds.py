"""Rounds: the order rotates, the first does not count, a run that loses an object is void."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.benchmarks.suite.rounds import Entry, contests_of, run_rounds
from noria.benchmarks.suite.tools import Ends, Invocation, Tool
from noria.benchmarks.suite.workloads import Workload

WORKLOAD = Workload(name="tiny", kind="small", title="two objects", objects=(("a", 1), ("b", 2)))


class FolderTestBed:
    """Buckets are folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def fresh_ends(self) -> Iterator[Ends]:
        bucket = self._folder / str(next(self._numbers))
        bucket.mkdir()
        yield Ends(
            connection_string="",
            account="",
            container="",
            endpoint="",
            access_key="",
            secret_key="",
            bucket=str(bucket),
        )

    def arrived(self, ends: Ends) -> tuple[int, int]:
        sizes = [path.stat().st_size for path in Path(ends.bucket).iterdir()]
        return len(sizes), sum(sizes)


@pytest.fixture
def test_bed(tmp_path: Path) -> FolderTestBed:
    return FolderTestBed(tmp_path)


def shell(name: str, program: str) -> Tool:
    """A tool that finds its bucket as $0."""

    def invoke(ends: Ends, folder: Path) -> Invocation:
        return Invocation(
            command=["sh", "-c", program, ends.bucket], environment={"PATH": os.defpath}
        )

    return Tool(name=name, tool="shell", invoke=invoke)


def entries(test_bed: FolderTestBed, *tools: Tool) -> list[Entry]:
    return [Entry(workload=WORKLOAD, test_bed=test_bed, tool=one) for one in tools]


MOVE = 'printf x > "$0/a"; printf xx > "$0/b"'


def test_the_order_rotates_and_the_warm_up_does_not_count(test_bed: FolderTestBed) -> None:
    said: list[str] = []
    three = entries(test_bed, *(shell(name, MOVE) for name in "ABC"))
    runs = list(run_rounds(three, rounds=3, say=said.append))
    assert "".join(run.tool for run in runs) == "ABC" + "BCA" + "CAB" + "ABC"
    assert [run.counts for run in runs] == [False] * 3 + [True] * 9
    assert len(said) == len(runs)
    [contest] = contests_of(three, runs)
    assert [run.round for run in contest.valid("B")] == [1, 2, 3]
    assert list(contest.by_round("B", lambda run: run.usage.cpu_seconds)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("program", "trouble"),
    [
        ("printf x > $0/a; echo lost one", "1 objects and 1 bytes arrived: lost one"),
        ('printf x > "$0/a"; printf xxx > "$0/b"', "2 objects and 4 bytes arrived: "),
        (MOVE + "; echo sorry >&2; exit 3", "exit code 3: sorry"),
    ],
)
def test_a_run_that_does_not_do_the_work_is_void(
    test_bed: FolderTestBed, program: str, trouble: str
) -> None:
    two = entries(test_bed, shell("good", MOVE), shell("bad", program))
    [contest] = contests_of(two, list(run_rounds(two, rounds=1, say=lambda line: None)))
    assert [run.trouble for run in contest.void("bad")] == [trouble] * 2
    assert contest.valid("bad") == []
    assert len(contest.valid("good")) == 1


def test_contests_by_workload_keep_the_first_entrys_own(test_bed: FolderTestBed) -> None:
    other = Workload(name="tiny", kind="small", title="in other pieces", objects=(("c", 3),))
    third = Workload(name="third", kind="small", title="third", objects=(("c", 3),))
    mixed = [
        *entries(test_bed, shell("A", MOVE)),
        Entry(workload=other, test_bed=test_bed, tool=shell("B", "printf xxx > $0/c")),
        Entry(workload=third, test_bed=test_bed, tool=shell("A", "printf xxx > $0/c")),
    ]
    runs = list(run_rounds(mixed, rounds=1, say=lambda line: None))
    tiny, last = contests_of(mixed, runs)
    assert tiny.workload is WORKLOAD
    assert [one.name for one in tiny.tools] == ["A", "B"]
    assert [len(tiny.valid(name)) for name in "AB"] == [1, 1]
    assert (last.workload, len(last.runs)) == (third, 2)
