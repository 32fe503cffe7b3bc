"""Two revisions side by side: the table pairs their rounds."""

from __future__ import annotations

from noria.benchmarks.suite.compare import table
from noria.benchmarks.suite.revisions import NEW, OLD
from noria.benchmarks.suite.workloads import Workload
from tests.support.fake_runs import contest, usage

WORKLOAD = Workload(name="tiny", kind="small", title="tiny", objects=(("object", 1),))


def test_the_table_pairs_rounds() -> None:
    sides = contest(
        WORKLOAD,
        **{
            OLD: [usage(), usage(cpu_seconds=2), usage(cpu_seconds=20)],
            NEW: [usage(), usage(cpu_seconds=1), usage(cpu_seconds=12)],
        },
    )
    [cpu] = [line for line in table([sides]) if "CPU s" in line]
    assert cpu.split() == ["tiny", "CPU", "s", "11.00", "6.50", "0.55", "(0.50", "to", "0.60)"]


def test_a_side_without_a_valid_run_has_no_ratio() -> None:
    sides = contest(WORKLOAD, **{OLD: [usage(), usage()], NEW: [usage()]})
    assert all("no pair" in line for line in list(table([sides]))[1:])
