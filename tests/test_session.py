"""A test session that is ended cleans up after itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT
from tests.support.processes import wait_until

TESTS = """
import pathlib, time
import pytest
from hypothesis import given, strategies as st

HERE = pathlib.Path(__file__).parent

@pytest.fixture(scope="session")
def server():
    (HERE / "up").touch()
    yield
    time.sleep(0.5)
    (HERE / "up").unlink()

@given(st.integers())
def test_first(server, number):
    (HERE / "running").touch()
    time.sleep(60)

def test_second(server):
    (HERE / "second").touch()
"""


DROPPED = TESTS.replace(
    """    (HERE / "running").touch()
""",
    """    class Noted:
        def __del__(self):
            (HERE / "running").touch()
            time.sleep(1)

    Noted()
""",
)


@pytest.mark.parametrize("tests", [TESTS, DROPPED], ids=["in a test", "where Python drops it"])
def test_sigterm_ends_the_session_and_its_servers(tests: str, tmp_path: Path) -> None:
    """Also if it comes twice, as `timeout` sends it, and inside a property test."""
    (tmp_path / "test_two.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = servers: as ours\n")
    plugins = ("-p", "tests.conftest", "-p", "no:cacheprovider")
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *plugins, f"--rootdir={tmp_path}", "test_two.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            wait_until((tmp_path / "running").exists, "the first test")
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            printed, _ = process.communicate(timeout=50)
        finally:
            process.kill()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, printed
    assert "ended by SIGTERM" in printed
    assert "no tests ran" in printed, "none is said to have failed"
    assert not (tmp_path / "up").exists(), "the server was ended"
    assert not (tmp_path / "second").exists()
