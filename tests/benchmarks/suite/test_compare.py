"""Two revisions side by side: each side runs its own code, and the table pairs their rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT
from noria.benchmarks.suite.compare import NEW, OLD, check_imports, table, unpacked
from noria.benchmarks.suite.workloads import Workload
from tests.support.fake_runs import contest, usage

WORKLOAD = Workload(name="tiny", title="tiny", objects=(("object", 1),))


def test_a_revision_is_unpacked_whole_and_goes_again() -> None:
    with unpacked("HEAD") as tree:
        assert (tree / "engine" / "cli.py").is_file()
        assert not (tree / ".git").exists()
    assert not tree.exists()


def test_what_is_no_revision_is_said() -> None:
    with pytest.raises(SystemExit, match="no-such-ref is no revision"), unpacked("no-such-ref"):
        pass


@pytest.mark.slow
def test_driver_and_workers_import_the_tree_and_nothing_else(tmp_path: Path) -> None:
    check_imports(ROOT)
    with pytest.raises(RuntimeError, match=f"instead of {tmp_path}, Python imports {ROOT}"):
        check_imports(tmp_path)


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
