"""An earlier pass of a migration is neither run nor reconciled: what stands is of the latest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from noria.engine import job
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import Migration


@pytest.fixture
def root(tmp_path: Path) -> Path:
    migration = Migration(tmp_path / "move")
    for number in (1, 2, 3):
        JobDirectory.create(migration.place(number), {"id": f"pass-{number}"})
    return migration.root


@pytest.mark.parametrize("call", [job.run, job.reconcile_job])
@pytest.mark.parametrize("number", [1, 2])
def test_an_earlier_pass_is_refused(
    root: Path, number: int, call: Callable[[Path], object]
) -> None:
    with pytest.raises(ConfigurationError, match=r"name the latest, .*passes/000003"):
        call(Migration(root).place(number))


def test_the_latest_is_not(root: Path) -> None:
    job.refuse_earlier_pass(Migration(root).place(3))
    job.refuse_earlier_pass(root.parent)
