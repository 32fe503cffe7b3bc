"""Every process that belongs to a command is counted, also those that left their parents."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.benchmarks.measure.accounting import Account, Usage, measure
from noria.benchmarks.measure.cgroups import open_cgroup
from noria.benchmarks.measure.process_tree import ProcessTreeAccount

# Burns CPU by its own clock, so that load on the machine makes it last longer, not burn less.
BURN = """
import time
def burn(seconds):
    while time.process_time() < seconds: pass
"""

# A child that burns, and a daemon that left its parent and session, and burns after both. The pipe
# keeps the command waiting for the daemon: its end is seen, its time is not waited for.
TREE = (
    BURN
    + """
import os
reading, writing = os.pipe()
if os.fork() == 0:
    os.close(reading)
    os.setsid()
    if os.fork() == 0:
        burn(0.6)
    os._exit(0)
os.close(writing)
child = os.fork()
if child == 0:
    burn(0.5)
    os._exit(0)
os.waitpid(child, 0)
burn(0.4)
os.read(reading, 1)
"""
)

# As Ray's node process does: the kernel drops the children, and what they used is stated nowhere.
IGNORED = (
    "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    + BURN
    + """
import os
reading, writing = os.pipe()
if os.fork() == 0:
    burn(1.0)
    os._exit(0)
os.close(writing)
os.read(reading, 1)
"""
)

ABORT = "import os; os.abort()"

ACCOUNTS: dict[str, Callable[[], Account | None]] = {
    "cgroup": open_cgroup,
    "process tree": ProcessTreeAccount,
}


@pytest.fixture(params=ACCOUNTS)
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    opened = ACCOUNTS[request.param]()
    if opened is None:
        pytest.skip("no control group can be made here")
    with contextlib.closing(opened):
        yield opened


def run_python(account: Account, program: str, folder: Path | None = None) -> Usage:
    command = [sys.executable, "-S", "-c", program]
    return measure(command, dict(os.environ), account=account, folder=folder)


def start_seconds(account: Account) -> float:
    return run_python(account, BURN).cpu_seconds


def test_children_and_daemons_count(account: Account) -> None:
    around = start_seconds(account)
    used = run_python(account, TREE).cpu_seconds - around
    assert used == pytest.approx(1.5, abs=0.15)


def test_children_that_nobody_waits_for_count(account: Account) -> None:
    used = run_python(account, IGNORED).cpu_seconds
    assert used == pytest.approx(1.0 + start_seconds(account), abs=0.25)


def test_what_was_used_before_does_not_count(account: Account) -> None:
    run_python(account, BURN + "burn(0.5)")
    assert run_python(account, BURN).cpu_seconds < 0.2


def test_standing_members_count_from_now_on_and_stay(account: Account, tmp_path: Path) -> None:
    for name in ("ready", "go", "done"):
        os.mkfifo(tmp_path / name)
    program = BURN + (
        "burn(0.6); open('ready', 'w').close(); open('go').read(); burn(1.0)\n"
        "open('done', 'w').close(); open('go').read()"
    )
    existing = account.launch([sys.executable, "-S", "-c", program], os.environ, cwd=tmp_path)
    (tmp_path / "ready").read_text()
    usage = run_python(account, "open('go', 'w').close(); open('done').read()", tmp_path)
    assert existing.poll() is None
    assert usage.left_behind == []
    assert usage.cpu_seconds == pytest.approx(0.4 + start_seconds(account), abs=0.15)
    (tmp_path / "go").write_text("")
    assert existing.wait() == 0


def test_who_stays_behind_is_ended_and_named(account: Account) -> None:
    lingering = "import os, signal; os.fork() or (os.setsid(), signal.pause())"
    usage = run_python(account, lingering)
    assert usage.exit_code == 0
    assert [lingering in command for command in usage.left_behind] == [True]
    assert account.members() == []


def test_the_memory_of_all_processes_counts(account: Account) -> None:
    program = """
import os, time
blocks = bytearray(os.urandom(1)) * (100 << 20)
child = os.fork()
own = bytearray(os.urandom(1)) * (50 << 20)
time.sleep(1.0)
if child:
    os.waitpid(child, 0)
"""
    usage = run_python(account, program)
    # Shared pages count in both processes by RSS, once by PSS.
    assert 300 << 20 < usage.peak_rss_bytes < 340 << 20
    assert 200 << 20 < usage.peak_pss_bytes < 230 << 20


@pytest.mark.parametrize(("program", "exit_code"), [("raise SystemExit(7)", 7), (ABORT, -6)])
def test_the_exit_code_is_the_commands_own(account: Account, program: str, exit_code: int) -> None:
    assert run_python(account, program).exit_code == exit_code


def test_a_command_that_takes_too_long_is_killed(account: Account) -> None:
    command = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    usage = measure(command, os.environ, account=account, limit_seconds=0.3)
    assert usage.exit_code == -9


def test_a_command_is_asked_to_end_before_it_is_killed(account: Account) -> None:
    command = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    usage = measure(command, os.environ, account=account, stop_seconds=0.3, limit_seconds=60)
    assert usage.exit_code == -15


def test_cpu_is_split_by_role(account: Account) -> None:
    program = (
        BURN + "import os; child = os.fork(); burn(0.4 if child else 0.8); child and os.wait()"
    )
    parent = sys.executable

    def role(command: str) -> str:
        return "python" if parent in command else "other"

    command = [sys.executable, "-S", "-c", program]
    usage = measure(command, os.environ, account=account, roles=role)
    assert set(usage.cpu_by_role) == {"python", "unseen"}
    assert sum(usage.cpu_by_role.values()) == pytest.approx(usage.cpu_seconds, abs=0.05)
    assert usage.cpu_by_role["python"] > 1.0
