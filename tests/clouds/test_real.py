"""The conformance suite by URL, as `make conformance URL=...` runs it: nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from noria.benchmarks.servers import ROOT
from tests.clouds.conftest import Lakes


@pytest.mark.parametrize("azure", [False, True], ids=["s3", "azure"])
def test_the_suite_runs_at_a_url_and_leaves_nothing(lakes: Lakes, azure: bool) -> None:
    place = lakes.place(azure=azure)
    environment = {
        **os.environ,
        **lakes.azurite.env(),
        **lakes.seaweedfs.env(),
        "NORIA_CONFORMANCE_URL": f"{place}/some/prefix",
    }
    chosen = "parts_make_an_object or what_is_written or nothing_below or missing_container"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, "tests/conformance", "-k", chosen],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "5 passed" in ended.stdout
    assert lakes.found(place) == {}
