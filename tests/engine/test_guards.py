"""What guards ask, and what becomes of their answers."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import noria
from noria.engine.config.jobfile import GuardConfig, PrometheusConfig
from noria.engine.config.reading import read_job_file
from noria.engine.guarded_ends import guards_of
from noria.engine.guards import (
    GuardAnswer,
    GuardCommand,
    StoreGuard,
    ask_prometheus,
    make_guard,
)
from noria.engine.listing_guards import refuse_foreign_commands
from noria.engine.planning import open_prepared
from noria.manifests.counters import StoreRole
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.directory import JobDirectory


@pytest.mark.parametrize(("code", "may_go_on"), [(0, True), (1, False), (2, None), (127, None)])
def test_a_command_answers_by_its_exit_code(code: int, may_go_on: bool | None) -> None:
    answer = GuardCommand(f"exit {code}").ask()
    assert answer.may_go_on is may_go_on
    assert answer.said == f"its command ended with {code}"


HANGS = "sleep 321 & echo $! > {}; wait"
"""A command that has started another, whose id it writes."""


def is_gone(note: Path) -> bool:
    """Whether the process that a command has started has ended, waiting for up to five seconds."""
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        with contextlib.suppress(FileNotFoundError, ValueError):
            stat = Path(f"/proc/{int(note.read_text())}/stat")
            if not stat.exists() or stat.read_text().split()[2] == "Z":
                return True
        time.sleep(0.02)
    return False


def test_a_command_that_hangs_leaves_no_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.engine.guards.ANSWER_SECONDS", 0.5)
    answer = GuardCommand(HANGS.format(tmp_path / "id")).ask()
    assert answer.may_go_on is None
    assert answer.said.startswith("its command took over")
    assert is_gone(tmp_path / "id")


def test_a_guard_that_is_closed_ends_the_command_that_it_has_asked(tmp_path: Path) -> None:
    note = tmp_path / "id"
    config = GuardConfig(command=HANGS.format(note), every=1)
    guard = make_guard(StoreRole.SOURCE, config, iter(()))
    guard.begin()
    ends = time.monotonic() + 5
    while not (note.exists() and note.read_text()) and time.monotonic() < ends:
        time.sleep(0.02)
    for _ in range(2):
        guard.close()
    assert is_gone(note)


@contextmanager
def answering(data: Any, code: int = 200) -> Iterator[str]:
    """Something that answers queries as Prometheus does."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps({"status": "success", "data": data}).encode()
            self.send_response(code)
            self.send_header("Content-Length", f"{len(body)}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
        assert asked == ["/api/v1/query?query=max%28load%29"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def vector(*values: str) -> dict[str, Any]:
    return {"resultType": "vector", "result": [{"metric": {}, "value": [1, v]} for v in values]}


@pytest.mark.parametrize(
    ("data", "may_go_on"),
    [
        (vector("0.5"), True),
        (vector("0.5", "0.9"), False),
        (vector("0.8"), True),
        (vector(), None),
        ({"resultType": "scalar", "result": [1, "0.9"]}, False),
        ({"resultType": "vector", "result": [{}]}, None),
        ("nonsense", None),
    ],
)
def test_prometheus_answers_by_the_largest_value(data: Any, may_go_on: bool | None) -> None:
    with answering(data) as url:
        config = PrometheusConfig(url=url, query="max(load)", above=0.8)
        assert ask_prometheus(config).may_go_on is may_go_on


def test_prometheus_that_refuses_or_is_away_is_no_answer() -> None:
    with answering(vector("0.1"), code=503) as url:
        config = PrometheusConfig(url=url, query="max(load)", above=0.8)
        assert ask_prometheus(config).may_go_on is None
    assert ask_prometheus(config).may_go_on is None


def test_a_guard_that_does_not_answer_in_time_was_not_asked() -> None:
    holds = threading.Event()

    def ask(quiet: bool) -> GuardAnswer:
        holds.wait()
        return GuardAnswer(may_go_on=True, said="late")

    guard = StoreGuard(StoreRole.SOURCE, GuardConfig(command="true", every=1), ask)
    guard.begin()
    now = time.monotonic()
    for seconds in range(0, 200, 5):
        state = guard.look(now + seconds, quiet=False)
    assert state.factor < 1.0
    holds.set()
    guard.close()


def test_small_reads_of_a_source_are_timed_before_the_first_worker(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "empty").touch()
    (source / "full").write_bytes(bytes(100_000))
    path = tmp_path / "job.toml"
    path.write_text(
        f'[source]\nurl = "file://{source}"\n[source.guard]\nlatency_factor = 50\n'
        f'[target]\nurl = "file://{target}"\n[target.guard]\nlatency_factor = 50\n'
    )
    config = read_job_file(path)
    noria.plan(config, tmp_path / "job")
    prepared = open_prepared(tmp_path / "job")
    with guards_of(prepared, prepared.config.run, moving=True) as guards:
        guards.begin()
        found = guards.look(time.monotonic(), quiet=False)
        assert found.keys() == {"source", "target"}
        assert all("a small read took" in state.said for state in found.values())
        assert all("ms when quiet" in state.said for state in found.values())
        assert not any(state.holds for state in found.values())
    verifying = guards_of(prepared, prepared.config.run, moving=False)
    assert verifying.look(0.0, quiet=False).keys() == {"target"}


def test_a_command_that_others_may_have_written_is_not_run(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path)
    (tmp_path / "job.json").write_text("{}")
    run = noria.job_config(
        {
            "source": {"url": "file:///a", "guard": {"command": "true"}},
            "target": {"url": "file:///b"},
        },
        "test",
    ).run
    (tmp_path / "job.json").chmod(0o600)
    refuse_foreign_commands(directory, run, {})
    (tmp_path / "job.json").chmod(0o620)
    with pytest.raises(ConfigurationError, match="others may write that file"):
        refuse_foreign_commands(directory, run, {})
    refuse_foreign_commands(directory, run, {"source_guard": {"command": "true"}})


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        ({}, "needs one of latency_factor, command and prometheus"),
        ({"latency_factor": 3, "command": "true"}, "needs one of"),
        ({"command": "true", "baseline": "1ms"}, "baseline is for latency_factor alone"),
        ({"latency_factr": 3}, r"source\.guard\.latency_factr: no such setting; did you mean"),
        ({"latency_factor": 1}, r"source\.guard\.latency_factor"),
        ({"prometheus": {"url": "ftp://x", "query": "q", "above": 1}}, r"guard\.prometheus\.url"),
    ],
)
def test_guards_that_are_none_are_refused(guard: dict[str, Any], said: str) -> None:
    ends = {"source": {"url": "file:///a", "guard": guard}, "target": {"url": "file:///b"}}
    with pytest.raises(ConfigurationError, match=said):
        noria.job_config(ends, "test")


def test_a_guard_is_made_as_its_file_says() -> None:
    config = GuardConfig(command="exit 1", floor=0.5, every=1)
    guard = make_guard(StoreRole.TARGET, config, iter(()))
    guard.begin()
    ends = time.monotonic() + 20
    while time.monotonic() < ends and not guard.look(time.monotonic(), quiet=False).holds:
        time.sleep(0.05)
    state = guard.look(time.monotonic(), quiet=False)
    guard.close()
    assert (state.factor, state.said) == (0.6, "its command ended with 1")
