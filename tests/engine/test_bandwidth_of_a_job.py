"""A job with a bandwidth takes as long as its bytes need; it may change, and is no part of the job.

Only lower bounds of time are asserted: a busy machine takes longer.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from noria.engine.api.notebook import html_of
from noria.engine.config.reading import job_config, with_settings
from noria.engine.status import JobStatus, Phase
from noria.engine.terminal.figures import describe
from noria.manifests.errors import ConfigurationError
from noria.workers.runtime.bandwidth import BURST_SECONDS
from tests.support.moves import NORIA

ENDS = {"source": {"url": "file:///a"}, "target": {"url": "file:///b"}}


def test_two_workers_keep_to_it_together(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for number in range(8):
        with (source / f"large-{number}").open("wb") as file:
            file.truncate(4_000_000)
    for number in range(40):
        (source / f"small-{number}").write_bytes(bytes(100_000))
    ends = [f"file://{source}", f"file://{target}", "--job", str(tmp_path / "job")]
    options = ["--workers", "2", "--metrics-address", "off", "--json", "--bandwidth"]
    began = time.monotonic()
    done = subprocess.run([str(NORIA), "copy", *ends, *options, "10MB/s"], capture_output=True)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    total = 8 * 4_000_000 + 40 * 100_000
    assert took >= total / 10e6 - 2 * BURST_SECONDS
    assert json.loads(done.stdout)["bytes"] == total
    # It is another one now, which refuses nothing: the job is the same.
    again = subprocess.run([str(NORIA), "copy", *ends, *options, "1Gbit/s"], capture_output=True)
    assert again.returncode == 0, again.stderr
    began = time.monotonic()
    verify = [str(NORIA), "verify", str(tmp_path / "job"), *options, "20MB/s"]
    verified = subprocess.run(verify, capture_output=True)
    assert verified.returncode == 0, verified.stderr
    assert time.monotonic() - began >= total / 20e6 - 2 * BURST_SECONDS


@pytest.mark.parametrize(
    ("text", "rate"), [("200MB/s", 200e6), ("2Gbit/s", 250e6), ("64KiB/s", 65_536), ("0", 0)]
)
def test_rates_are_read_as_people_write_them(text: str, rate: float) -> None:
    config = with_settings(job_config(ENDS, "test"), {"run": {"bandwidth": text}}, "test")
    assert config.run.bandwidth == rate


@pytest.mark.parametrize("text", ["fast", "1B/s", "-5MB/s", "nan", "1e40"])
def test_what_is_no_rate_or_too_little_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"run\.bandwidth"):
        with_settings(job_config(ENDS, "test"), {"run": {"bandwidth": text}}, "test")


def test_it_says_that_bandwidth_holds_it() -> None:
    status = JobStatus(job="j", phase=Phase.MOVING, updated_seconds=0.0, bandwidth=200e6, held=True)
    assert "held at 200 MB/s by bandwidth" in describe(status)
    ended = JobStatus(job="j", phase=Phase.FINISHED, updated_seconds=0.0, bandwidth=2e8, held=True)
    assert "held" not in describe(ended)


def test_a_notebook_says_it_too() -> None:
    status = JobStatus(job="j", phase=Phase.MOVING, updated_seconds=0.0, bandwidth=200e6, held=True)
    assert "held at 200 MB/s by bandwidth" in html_of(status)
