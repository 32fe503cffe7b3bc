"""Channel and Child: what a process of Noria's own hears, imports, prints and outlives."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import noria
from noria.engine.cluster.child import Channel, Child
from tests.support.packages import copy_of_noria
from tests.support.processes import descendants, is_alive, wait_until

MIB = 1 << 20


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = map(Channel, socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_of_any_size_arrive_whole_and_in_order(pair: tuple[Channel, Channel]) -> None:
    messages = [{"n": 1}, b"", b"x" * (20 * MIB), None, "last"]

    def send_all() -> None:
        for message in messages:
            pair[0].send(message)

    sender = threading.Thread(target=send_all)
    sender.start()
    assert [pair[1].receive() for _ in messages] == messages
    sender.join()


def test_both_ends_talk_at_once(pair: tuple[Channel, Channel]) -> None:
    """As each end has a thread that hears, neither waits for the other to take in what it says."""
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(pair[0].receive()))
    listener.start()
    sender = threading.Thread(target=lambda: pair[0].send(b"a" * MIB * 4))
    sender.start()
    assert len(pair[1].receive()) == 4 * MIB
    pair[1].send(b"b")
    listener.join()
    sender.join()
    assert heard == [b"b"]


@pytest.mark.parametrize("way", ["hang up", "close"])
def test_the_end_of_the_other_is_heard(pair: tuple[Channel, Channel], way: str) -> None:
    pair[1].send("before")
    pair[1].hang_up() if way == "hang up" else pair[1].close()
    assert pair[0].receive() == "before"
    with pytest.raises(EOFError):
        pair[0].receive()
    with pytest.raises(OSError, match="Broken pipe"):
        pair[0].send("after")


def test_a_message_that_breaks_off_is_no_message() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall((100).to_bytes(8, "big") + b"x" * 99)
    theirs.close()
    with pytest.raises(EOFError):
        channel.receive()
    channel.close()


def test_hanging_up_wakes_who_waits_at_this_end(pair: tuple[Channel, Channel]) -> None:
    woken = threading.Event()

    def wait() -> None:
        with contextlib.suppress(EOFError, OSError):
            pair[0].receive()
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    pair[0].hang_up()
    assert woken.wait(5)
    pair[0].hang_up()


# -- children --------------------------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which a child may import."""
    folder = tmp_path / "asked for"
    folder.mkdir()
    monkeypatch.setenv("NORIA_PYTHONPATH", str(folder))
    return folder


@contextlib.contextmanager
def child_of(folder: Path, code: str) -> Iterator[Child]:
    (folder / "child_module.py").write_text(textwrap.dedent(code))
    child = Child("child_module")
    try:
        yield child
    finally:
        child.kill()
        assert child.wait()


ECHO = """
    def main(channel):
        while True:
            channel.send(channel.receive())
"""
PLACE = """
    import os, sys
    def main(channel):
        import noria
        channel.send((sys.path, noria.__file__, os.getcwd(), dict(os.environ)))
"""


def test_a_child_answers(modules: Path) -> None:
    with child_of(modules, ECHO) as child:
        for message in ("a", b"x" * 5 * MIB):
            child.channel.send(message)
            assert child.channel.receive() == message


def test_a_child_imports_what_was_asked_for_and_nothing_that_happens_to_be_there(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traps = tmp_path / "traps"
    traps.mkdir()
    for name in ("noria", "socket", "ctypes", "engine", "importlib"):
        (traps / f"{name}.py").write_text("raise SystemExit('a trap')")
    relative = f"{modules}{os.pathsep}relative{os.pathsep}"
    monkeypatch.setenv("NORIA_PYTHONPATH", relative)
    monkeypatch.setenv("PYTHONPATH", str(traps))
    monkeypatch.chdir(traps)
    with child_of(modules, PLACE) as child:
        path, package, folder, _ = child.channel.receive()
    assert str(modules) == path[-1], "last: what it holds hides nothing of Python's"
    assert str(traps) not in path
    assert not {"", ".", "relative"} & set(path)
    assert package == noria.__file__
    assert folder == str(traps), "its current folder is its parent's"


def test_a_child_runs_the_package_of_its_parent_and_nothing_that_lies_beside_it(
    modules: Path, tmp_path: Path
) -> None:
    copy = copy_of_noria(tmp_path / "copy")
    (modules / "child_module.py").write_text(textwrap.dedent(PLACE))
    code = (
        "from noria.engine.cluster.child import Child\n"
        "path, package, *_ = Child('child_module').channel.receive()\n"
        "print(package, *path, sep='\\n')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    package, *path = ended.stdout.splitlines()
    assert package == str(copy / "noria" / "__init__.py")
    assert str(copy) not in path


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def main(channel): raise ValueError('no such luck')", "ValueError: no such luck"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def main(channel): print('on the way'); raise SystemExit(7)", "on the way"),
        ("def main(channel): raise SystemExit('enough')", "enough"),
        ("def main(channel): raise SystemExit(7)", "exit code 7"),
        ("import os\ndef main(channel): os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("import os\ndef main(channel): os.write(1, b'x' * 100_000 + b'\\nend\\n')", "end"),
        ("import os\ndef main(channel): os.write(2, b'\\xff\\n')", "\ufffd"),
    ],
)
def test_last_words(
    modules: Path, code: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with child_of(modules, code) as child:
        with pytest.raises(EOFError):
            child.channel.receive()
        assert child.last_words() == words
    assert capfd.readouterr() == ("", ""), "its output is not ours"


def test_a_module_that_is_not_there_is_named_in_the_last_words() -> None:
    child = Child("noria.no_such_module")
    with pytest.raises(EOFError):
        child.channel.receive()
    assert child.last_words() == "ModuleNotFoundError: No module named 'noria.no_such_module'"
    child.kill()
    assert child.wait()


def test_a_child_that_is_stopped_is_killed(modules: Path) -> None:
    with child_of(modules, ECHO) as child:
        child.channel.send("up")
        child.channel.receive()
        os.kill(child.pid, signal.SIGSTOP)
        assert child.wait(0.1) is False
        child.kill()
        assert child.wait()
        assert not is_alive(child.pid)
        child.kill()
        assert child.wait(), "a repeat does nothing"


def test_no_descriptor_is_left(modules: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with child_of(modules, ECHO):
        pass
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_child_has_none_of_our_descriptors(modules: Path, tmp_path: Path) -> None:
    code = """
        import os
        def main(channel):
            channel.send({os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)})
            channel.send(len(os.listdir("/proc/self/fd")))
    """
    with open(tmp_path / "ours", "w") as ours, child_of(modules, code) as child:
        os.set_inheritable(ours.fileno(), True)
        standard, number = child.channel.receive(), child.channel.receive()
    assert standard == {"/dev/null", "/memfd:noria-child (deleted)"}
    assert number == 5, "three, the channel, and the look at them"


PARENT = """
import sys, threading, time
from noria.engine.cluster.child import Child
def begin():
    child = Child("child_module")
    child.channel.send("up")
    print(child.channel.receive(), child.pid, flush=True)
    return child
{how}
"""


@contextlib.contextmanager
def parent_process(how: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has a child: both, once the child answers."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(how=how)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    try:
        word, pid = parent.stdout.readline().split()
        assert word == "up"
        yield parent, int(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_child_ends_with_its_parent(modules: Path, number: signal.Signals) -> None:
    """Also one that is stopped."""
    (modules / "child_module.py").write_text(textwrap.dedent(ECHO))
    with parent_process("child = begin(); time.sleep(100)") as (parent, pid):
        os.kill(pid, signal.SIGSTOP)
        parent.send_signal(number)
        wait_until(lambda: not is_alive(pid), "its end")


def test_a_child_whose_parent_has_ended_before_it_looks_ends(modules: Path) -> None:
    (modules / "child_module.py").write_text("import time; time.sleep(100)")
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "from noria.engine.cluster.child import Child; import os;"
            "child = Child('child_module'); print(child.pid, flush=True); os._exit(0)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = parent.communicate(timeout=20)
    wait_until(lambda: not is_alive(int(out)), "its end")


def test_ctrl_c_in_a_terminal_does_not_reach_a_child(modules: Path) -> None:
    """A terminal sends SIGINT to all of the process group in front."""
    (modules / "child_module.py").write_text(textwrap.dedent(ECHO))
    code = PARENT.format(
        how=textwrap.dedent(
            """
            try:
                child = begin()
                print("waiting", flush=True)
                for _ in range(1000):  # one long sleep would miss a signal just before it
                    time.sleep(0.1)
            except KeyboardInterrupt:
                child.channel.send("still here")
                print(child.channel.receive(), flush=True)
            """
        )
    )
    pid, terminal = pty.fork()
    if pid == 0:
        # A shell without job control has what it starts in the background ignore it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, "-c", code])
    try:
        said = _read_until(terminal, b"waiting")
        os.write(terminal, b"\x03")
        said += _read_until(terminal, b"still here")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    assert b"Traceback" not in said


def _read_until(terminal: int, word: bytes) -> bytes:
    said = b""
    while word not in said:
        ready, _, _ = select.select([terminal], [], [], 20)
        assert ready, said
        said += os.read(terminal, 4096)
    return said


def test_no_child_is_left_after_these() -> None:
    assert not [command for _, command in descendants(os.getpid()) if "child_module" in command]


ENDING = """
import atexit, sys, threading, time
from noria.engine.cluster.child import end_process

if "with a thread" in sys.argv:
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
atexit.register(print, "taken apart")
sys.stdout.write("said")
end_process(3)
"""


@pytest.mark.parametrize(
    ("words", "said"), [([], "saidtaken apart\n"), (["with a thread"], "said")]
)
def test_a_process_is_not_taken_apart_beneath_a_thread(words: list[str], said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDING, *words], stdout=subprocess.PIPE, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, said)


def test_what_could_not_be_printed_is_no_success() -> None:
    program = ENDING.replace("end_process(3)", "end_process(0)")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program, "with a thread"],
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=full,
            check=False,
        )
    assert ended.returncode == 120


def test_a_stream_that_was_closed_from_the_start_has_lost_nothing() -> None:
    program = ENDING.replace('sys.stdout.write("said")', "").replace(
        "end_process(3)", "end_process(0)"
    )
    words = [sys.executable, "-c", program, "with a thread"]
    ended = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *words], check=False)
    assert ended.returncode == 0
