"""One entry never ends another: whatever it meets is its own failure, and no other's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.manifests.errors import (
    AccessDenied,
    EntryBroken,
    NoriaError,
    SourceMissing,
    Throttled,
    UploadLost,
)
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import read_seals
from noria.workers.stores.local import store as folders
from noria.workers.stores.paced import Stopped
from noria.workers.verification import failure_of
from tests.support.finished_jobs import OBJECTS, run_leases
from tests.support.moves import NORIA

ODD = (ValueError, KeyError, TypeError, OverflowError, UnicodeEncodeError, AssertionError)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - any
        return caught


def test_an_error_that_nobody_expected_is_told_by_type_and_place() -> None:
    failure = failure_of(raised(ValueError("secret-name")))
    assert isinstance(failure, EntryBroken)
    assert failure.cause == "internal"
    assert "ValueError (at test_entries.py:" in failure.message
    assert "secret" not in failure.message


@pytest.mark.parametrize("error", [SourceMissing("x"), Throttled("x"), UploadLost("x")])
def test_what_concerns_an_entry_stays_what_it_is(error: NoriaError) -> None:
    assert failure_of(error) is error


@pytest.mark.parametrize("error", [AccessDenied("x"), Stopped(), MemoryError()])
def test_what_concerns_more_than_an_entry_is_raised_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        failure_of(error)


@settings(max_examples=12, deadline=None)
@given(key=st.sampled_from(sorted(set(OBJECTS) - {"huge"})), kind=st.sampled_from(ODD))
def test_any_error_at_one_entry_leaves_the_others_alone(
    tmp_path_factory: pytest.TempPathFactory, key: str, kind: type[Exception]
) -> None:
    """A store that breaks at one object, in any way, and moves all the others."""
    folder = tmp_path_factory.mktemp("job")
    with pytest.MonkeyPatch.context() as patch:
        whole = folders.LocalStore.read_object

        def read_object(store: folders.LocalStore, name: str, **options: Any) -> Any:
            if name == key:
                raise kind.__new__(kind)
            return whole(store, name, **options)

        patch.setattr(folders.LocalStore, "read_object", read_object)
        job = JobDirectory.open(run_leases(folder).root)
    outcomes = {
        row["key"]: (row["outcome"], row["cause"])
        for sealed in read_seals(job)
        if sealed.kind != "parts"
        for row in read_result(job, sealed).to_pylist()
    }
    assert outcomes.pop(key) == ("FAILED", "internal")
    assert set(outcomes.values()) == {("TRANSFERRED", None)}
    assert set(outcomes) == set(OBJECTS) - {key}


def test_an_odd_attribute_of_one_file_concerns_no_other(tmp_path: Path) -> None:
    """The kind's own case: `user.noria` of others, on one of many files."""
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "target").mkdir()
    for number in range(20):
        (source / f"{number:02}").write_bytes(b"x")
    os.setxattr(source / "07", "user.noria", b"\xff garbage")
    os.setxattr(
        source / "08",
        "user.noria",
        json.dumps({"txid": "t", "modified_seconds": float("nan")}).encode(),
    )
    ends = [f"file://{source}", f"file://{tmp_path / 'target'}", "--job", f"{tmp_path / 'job'}"]
    ended = subprocess.run(
        [NORIA, "copy", *ends, "--metrics-address", "off", "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = json.loads(ended.stdout)
    assert found["outcomes"] == {"TRANSFERRED": 20}, ended.stderr
    assert found["reconciled"], found
    assert found["seconds"] < 60
