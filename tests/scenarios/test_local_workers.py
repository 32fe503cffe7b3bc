"""A job on processes of this machine: nothing listens, nothing is left, nothing is hidden."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from noria.engine.cluster.protocol import Host
from tests.support.moves import NORIA
from tests.support.packages import copy_of_noria
from tests.support.processes import LOCAL_WORKER, descendants, is_alive, listening, wait_until


@pytest.fixture
def ends(tmp_path: Path) -> list[str]:
    """Arguments of `noria copy` from a folder of many small files to an empty one."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for number in range(1_000):
        (source / f"{number:04}").write_bytes(b"x")
    return [f"file://{source}", f"file://{target}", "--job", str(tmp_path / "job")]


def test_nothing_listens_and_nothing_is_left(ends: list[str], tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [NORIA, "copy", *ends, "--metrics-address", "off", "--workers", "1"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        wait_until(lambda: any((tmp_path / "target").glob("0*")), "the first object")
        family = dict(descendants(process.pid))
        workers = [pid for pid, command in family.items() if LOCAL_WORKER in command]
        assert workers, family
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        assert process.poll() is None, "it still runs"
        found = listening([process.pid, *family])
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    assert found == set()
    assert process.returncode == 0, (out, err)
    assert not any(map(is_alive, family))
    assert list(temporary.iterdir()) == []


def test_the_log_and_the_status_say_where_workers_are(ends: list[str], tmp_path: Path) -> None:
    """One of them is killed in the middle."""
    job, here = tmp_path / "job", Host.own("").name
    for number in range(1_000, 4_000):
        (tmp_path / "source" / f"{number:04}").write_bytes(b"x")
    process = subprocess.Popen(
        [NORIA, "copy", *ends, "--metrics-address", "off", "--workers", "1", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        wait_until(lambda: any((tmp_path / "target").glob("0*")), "the first object")
        workers = [pid for pid, command in descendants(process.pid) if LOCAL_WORKER in command]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, (out, err)
    said = [line.split(" ", 1)[1] for line in (job / "log/noria.log").read_text().splitlines()]
    assert said == [
        f"INFO noria.driver: worker 1 on {here} is up",
        f"WARNING noria.driver: worker 1 on {here} is lost: killed by SIGKILL",
        f"INFO noria.driver: worker 2 on {here} is up",
    ]
    assert err.splitlines() == [
        f"noria.driver: worker 1 on {here} is lost: killed by SIGKILL",
    ], "a terminal shows what is wrong, and no more"
    shown = subprocess.run(
        [NORIA, "status", job, "--json"], capture_output=True, text=True, check=True
    )
    hosts = json.loads(shown.stdout)["hosts"]
    assert list(hosts) == [here]
    assert (hosts[here]["workers"], hosts[here]["workers_lost"]) == (0, 1)
    assert hosts[here]["objects"] > 0
    table = subprocess.run(
        [NORIA, "status", job, "--hosts"], capture_output=True, text=True, check=True
    )
    assert f"  {here}\n" in table.stdout


def test_the_look_for_sockets_sees_them(tmp_path: Path) -> None:
    """What the test above looks with finds each kind that it says there is not."""
    code = """
        import socket, sys
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        abstract, named = (socket.socket(socket.AF_UNIX) for _ in range(2))
        abstract.bind("\\0noria-test-abstract")
        named.bind(sys.argv[1])
        abstract.listen()
        named.listen()
        pair = socket.socketpair()
        print(tcp.getsockname()[1], udp.getsockname()[1], flush=True)
        sys.stdin.read()
    """
    path = str(tmp_path / "socket")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    tcp, udp = process.stdout.readline().split()
    found = listening([process.pid])
    process.communicate()
    assert found == {
        f"tcp {tcp}",
        f"udp {udp}",
        f"unix {path}",
        "unix @noria-test-abstract",
    }


def test_three_workers_in_a_row_that_die_as_they_start_end_the_run_with_their_own_words(
    ends: list[str], tmp_path: Path
) -> None:
    copy = copy_of_noria(tmp_path / "copy")
    factory = copy / "noria" / "engine" / "worker_factory.py"
    factory.write_text(factory.read_text() + "\nraise RuntimeError('this factory is closed')\n")
    ended = subprocess.run(
        [sys.executable, "-m", "noria", "copy", *ends, "--metrics-address", "off", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(copy)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 3, (ended.stdout, ended.stderr)
    own_words = "RuntimeError: this factory is closed"
    assert own_words in ended.stderr
    assert f"3 workers in a row died while they started: {own_words}" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / "target").iterdir()) == []


EMBEDDING = textwrap.dedent(
    """
    import os, sys, threading
    from pathlib import Path
    import noria

    lines = 0
    over = threading.Event()

    def talk():
        global lines
        while not over.is_set():
            print(f"out {lines}", flush=True)
            os.write(2, f"err {lines}\\n".encode())
            lines += 1
            over.wait(0.005)

    talker = threading.Thread(target=talk)
    talker.start()
    def place():
        return sys.stdout, sys.stderr, os.fstat(1).st_ino, os.fstat(2).st_ino

    before = place()
    source, target, job = sys.argv[1:]
    config = noria.job_config({"source": {"url": source}, "target": {"url": target}}, "a script")
    noria.plan(config, Path(job))
    report = noria.run(Path(job))
    checked = noria.verify(Path(job))
    over.set()
    talker.join()
    assert before == place()
    assert (report.exit_code, checked.exit_code) == (0, 0), (report, checked)
    assert threading.active_count() == 1, threading.enumerate()
    print(f"end {lines}")
    """
)


def test_an_embedding_program_keeps_its_output_to_itself(ends: list[str], tmp_path: Path) -> None:
    """All that it prints meanwhile arrives, and nothing else does."""
    script = tmp_path / "script.py"
    script.write_text(EMBEDDING)
    source, target, _, job = ends
    ended = subprocess.run(
        [sys.executable, script, source, target, job],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    *out, last = ended.stdout.splitlines()
    word, lines = last.split()
    assert word == "end"
    assert int(lines) > 20
    assert out == [f"out {number}" for number in range(int(lines))]
    assert ended.stderr.splitlines() == [f"err {number}" for number in range(int(lines))]
