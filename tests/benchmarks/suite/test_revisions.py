"""A revision runs as a command of its own, and nothing but its own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT
from noria.benchmarks.suite.revisions import (
    check_imports,
    installed,
    make_environment,
    paired_line,
    unpacked,
)

OLD_LAYOUT = "586b44f"


def test_a_revision_is_unpacked_whole_and_goes_again() -> None:
    with unpacked("HEAD") as tree:
        assert (tree / "engine" / "cli.py").is_file()
        assert not (tree / ".git").exists()
    assert not tree.exists()


def test_what_is_not_a_revision_is_said() -> None:
    with pytest.raises(SystemExit, match="no-such-ref is not a revision"), unpacked("no-such-ref"):
        pass


@pytest.mark.slow
def test_this_tree_is_installed() -> None:
    with installed(ROOT) as program:
        assert program.name == "noria"


@pytest.mark.slow
def test_a_revision_of_the_old_layout_is_installed() -> None:
    try:
        with unpacked(OLD_LAYOUT) as tree:
            check_old_layout(tree)
    except SystemExit:
        pytest.skip(f"this clone has no revision {OLD_LAYOUT}")


def check_old_layout(tree: Path) -> None:
    try:
        with installed(tree):
            return
    except RuntimeError as error:
        if "exit code -11" not in str(error):
            raise
    # With newer packages than its own, that revision was once seen to crash: not what is asked.
    with installed(tree):
        return


@pytest.mark.slow
def test_code_of_another_tree_is_noticed(tmp_path: Path) -> None:
    program = make_environment(ROOT, tmp_path / "environment")
    with pytest.raises(RuntimeError, match=f"instead of {tmp_path}.*Noria runs {ROOT}/"):
        check_imports(program, tmp_path / "other")


def test_a_revision_that_does_not_run_says_why(tmp_path: Path) -> None:
    program = make_environment(tmp_path / "empty", tmp_path / "environment")
    with pytest.raises(RuntimeError, match="No module named 'engine'"):
        check_imports(program, tmp_path / "empty")


def test_lines_pair_rounds() -> None:
    line = paired_line("CPU s", {1: 2.0, 2: 20.0}, {1: 1.0, 2: 12.0, 3: 7.0}, 2)
    assert line.split() == ["CPU", "s", "11.00", "7.00", "0.55", "(0.50", "to", "0.60)"]


def test_a_side_without_a_run_has_no_ratio() -> None:
    assert paired_line("CPU s  ", {1: 2.0}, {}, 2) == "CPU s  no pair of valid runs"
