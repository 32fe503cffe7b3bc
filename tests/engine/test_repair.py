"""What a verification found damaged is known until a later one has looked at it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from noria.engine.repair import known_damage, note_damage
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import Outcome
from tests.manifests.job.test_receipts import LANDED, table

Verify = Callable[..., dict[str, int]]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """verify(a="damaged"): a verification with these failures; returns what is known then."""
    directory = JobDirectory.create(tmp_path / "job", {"id": "j"})

    def note(**causes: str) -> dict[str, int]:
        failed = replace(LANDED, outcome=Outcome.FAILED, level=None, message="m")
        found = [replace(failed, key=key, cause=cause) for key, cause in causes.items()]
        file = tmp_path / "found.parquet"
        pq.write_table(table(found), file)
        number = note_damage(directory, file, complete=True)
        known = known_damage(directory)
        assert sum(known.values()) == number
        return known

    return note


def test_what_could_not_be_looked_at_again_stays_known(verify: Verify) -> None:
    assert verify(a="damaged", b="damaged", c="target_missing") == {
        "damaged": 2,
        "target_missing": 1,
    }
    assert verify(a="short_body", d="short_body") == {"damaged": 1}, "b and c are well"
    assert verify(a="target_missing") == {"target_missing": 1}
    assert verify() == {}
