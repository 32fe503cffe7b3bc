"""The names of `import noria`: all are there, documented, and loaded when they are asked for."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest

import noria

REPORTS = (
    noria.PlanReport,
    noria.RunReport,
    noria.VerifyReport,
    noria.Reconciliation,
    noria.Cleaning,
)


@pytest.mark.parametrize("name", sorted(set(noria.__all__) - {"__version__"}))
def test_a_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(noria, name)
    assert inspect.getdoc(found)
    assert name in dir(noria)
    assert name in (noria.__doc__ or "") or inspect.isclass(found)


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'noria' has no attribute 'runn'"):
        noria.runn  # noqa: B018 - that it fails is the point


@pytest.mark.parametrize("kind", [*REPORTS, noria.JobStatus, noria.Failure])
def test_what_is_returned_is_a_frozen_dataclass(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]  # no stub has it


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_has_the_exit_code_of_its_command(kind: type) -> None:
    assert isinstance(kind.exit_code, property)  # type: ignore[attr-defined]  # is what is asked


def test_the_import_loads_nothing_but_the_version() -> None:
    code = "import sys; before = {*sys.modules}; import noria; print({*sys.modules} - before)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert set(eval(ended.stdout)) == {"noria", "noria.version"}
