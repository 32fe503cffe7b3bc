"""[[windows]] of a job file: read, refused with their lines, and kept with the job."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from noria.engine.config.jobfile import JobConfig
from noria.engine.config.reading import job_config, read_job_file, steered_config, with_settings
from noria.manifests.errors import ConfigurationError

ENDS = 'source = "file:///a"\ntarget = "file:///b"\n'
NIGHTS = """
[[windows]]
name = "nights"
days = "mon-fri"
from = "22:00"
to = "06:00"
zone = "Europe/Paris"
bandwidth = "2Gbit/s"

[[windows]]
from = "08:00"
to = "18:00"
paused = true
workers = "auto"
"""


def read(tmp_path: Path, text: str) -> JobConfig:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return read_job_file(path)


def test_windows_are_read_and_outlive_a_job_directory(tmp_path: Path) -> None:
    config = read(tmp_path, ENDS + NIGHTS)
    kept = job_config(config.model_dump(mode="json", exclude_unset=True), "job.json")
    changed = with_settings(kept, {"run": {"workers": 3}}, "test")
    for each in (config, kept, changed):
        nights, office = each.run.windows
        assert nights.given == {"bandwidth": 250e6}
        assert office.given == {"workers": 0, "paused": True}
        window = nights.window(1)
        assert window.name == "nights"
        assert window.end_of(datetime(2026, 11, 27, 21, 0, tzinfo=UTC)) is not None
        assert office.window(2).name == "2"
    assert config.run.windows == kept.run.windows


def test_what_is_wrong_in_windows_is_named_with_its_line(tmp_path: Path) -> None:
    wrong = NIGHTS.replace("22:00", "25:00").replace("bandwidth", "bandwith")
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, ENDS + wrong)
    assert "line 7: windows.0.from: this is not a time of day" in caught.value.message
    assert "windows.0.bandwith: no such setting; did you mean bandwidth?" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mon-fri", "mo-fr", "these are not days"),
        ("Europe/Paris", "Europe/Nowhere", "this machine knows no such zone"),
        ("Europe/Paris", "../etc/passwd", "this machine knows no such zone"),
        ('bandwidth = "2Gbit/s"', "", "a window needs one of bandwidth"),
        ('bandwidth = "2Gbit/s"', 'bandwidth = "2B/s"', "give 64KiB/s or more"),
    ],
)
def test_values_of_a_window_are_checked(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path, ENDS + NIGHTS.replace(old, new))


def test_settings_are_read_as_people_write_them() -> None:
    given = steered_config(
        ["bandwidth=2Gbit/s", "source.requests_per_second=500", "run.workers=12", "paused=false"],
        "noria set",
    ).given
    assert given == {
        "bandwidth": 250e6,
        "source_requests_per_second": 500,
        "workers": 12,
        "paused": False,
    }
    lifted = steered_config(["bandwidth=none", "transfers=auto"], "noria set").given
    assert lifted == {"bandwidth": 0, "transfers": 0}


@pytest.mark.parametrize("text", ["target.requests_per_second=0.5", "workers=1.5", "paused=maybe"])
def test_values_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=text.partition("=")[0].replace(".", "_")):
        steered_config([text], "noria set")
