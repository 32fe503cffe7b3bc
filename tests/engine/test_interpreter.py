"""Which TLS library is named, and who is advised to take another."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

import noria
from noria.engine import interpreter, job
from noria.engine.config.reading import job_config
from noria.engine.config.stores import speaks_https
from noria.engine.interpreter import FAST_INSTRUCTIONS, advice_on_https, processor_flags
from noria.engine.terminal.console import Shows, shown
from tests.support import commands
from tests.support.finished_jobs import config_of, finish_job, write_source

OLD, NEW = (3, 0, 19, 0, 0), (3, 5, 4, 0, 0)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter on OpenSSL 3.0 and a processor on which that matters."""
    use(monkeypatch, OLD, "OpenSSL 3.0.19 27 Jan 2026")
    monkeypatch.setattr(interpreter, "processor_flags", lambda: FAST_INSTRUCTIONS)


def use(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], name: str) -> None:
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", version)
    monkeypatch.setattr(ssl, "OPENSSL_VERSION", name)


def test_the_version_names_python_and_its_tls_library() -> None:
    code, said, _ = commands.noria("--version")
    assert code == 0
    assert said.startswith(f"noria {noria.__version__}, Python 3.")
    assert ssl.OPENSSL_VERSION in said


def test_a_slow_library_is_named_in_one_line_with_the_next_step(slow: None) -> None:
    advice = advice_on_https()
    assert advice is not None
    assert "OpenSSL 3.0.19 " in advice
    assert "Debian 13" in advice
    assert "\n" not in advice


@pytest.mark.parametrize(
    ("version", "name"),
    [(NEW, "OpenSSL 3.5.4 30 Sep 2025"), ((2, 0, 0, 0, 0), "LibreSSL 3.3.6")],
)
def test_a_fast_library_and_one_that_nobody_measured_draw_no_advice(
    slow: None, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], name: str
) -> None:
    use(monkeypatch, version, name)
    assert advice_on_https() is None


def test_where_the_processor_gains_nothing_there_is_no_advice(
    slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "processor_flags", lambda: FAST_INSTRUCTIONS - {"vaes"})
    assert advice_on_https() is None


def test_flags_are_read_as_linux_writes_them(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu vaes\nvmx flags\t: x\n\nflags\t: other\n")
    assert processor_flags(cpuinfo) == {"fpu", "vaes"}
    assert processor_flags(tmp_path / "none") == frozenset()


AZURE = "DefaultEndpointsProtocol={};AccountName=mine;AccountKey=a2V5;{}"


@pytest.mark.parametrize(
    ("url", "environment", "https"),
    [
        ("file:///tmp", {}, False),
        ("s3://bucket", {}, True),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, False),
        ("s3://bucket", {"AWS_ENDPOINT_URL_S3": "https://127.0.0.1:1"}, True),
        ("az://mine/box", {}, True),
        ("az://mine/box", {"AZURE_STORAGE_CONNECTION_STRING": "unreadable"}, True),
        ("az://mine/box", {"AZURE_STORAGE_CONNECTION_STRING": AZURE.format("http", "")}, False),
        ("az://mine/box", {"AZURE_STORAGE_CONNECTION_STRING": AZURE.format("https", "")}, True),
        ("az://other/box", {"AZURE_STORAGE_CONNECTION_STRING": AZURE.format("http", "")}, True),
        (
            "az://mine/box",
            {"NORIA_SOURCE_AZURE_STORAGE_CONNECTION_STRING": AZURE.format("http", "")},
            False,
        ),
    ],
)
def test_which_ends_speak_https(url: str, environment: dict[str, str], https: bool) -> None:
    config = job_config({"source": {"url": url}, "target": {"url": "file:///x"}}, "test")
    assert speaks_https(config.source, environment, read_only=True) is https


def test_the_advice_is_said_once_to_who_looks_and_to_nobody_else(
    slow: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "job"
    write_source(tmp_path)
    job.plan(config_of(tmp_path), root)
    loud, quiet = (Shows(messages=on, progress=on, causes=False) for on in (True, False))
    for shows in (loud, quiet):
        with shown(root, "off", shows):
            pass
        assert "advice" not in capsys.readouterr().err, "both ends are folders"
    monkeypatch.setattr(job, "speaks_https", lambda end, **_: True)
    with shown(root, "off", loud):
        pass
    assert capsys.readouterr().err.count("advice: https") == 1
    with shown(root, "off", quiet):
        pass
    assert capsys.readouterr().err == ""


def test_reports_of_a_run_say_what_it_ran_on(tmp_path: Path) -> None:
    root = finish_job(tmp_path).root
    for command in ("run", "status"):
        code, said, _ = commands.noria(command, root)
        assert code == 0
        assert ssl.OPENSSL_VERSION in said, command
    assert ssl.OPENSSL_VERSION in job.status(root).interpreter


def test_a_status_of_an_earlier_version_names_none() -> None:
    """What 586b44f wrote has no such field."""
    status = job.status(Path(__file__).parents[1] / "data" / "job-586b44f" / "objects")
    assert (status.interpreter, status.objects_total) == ("", 62)
