"""Figures a person can read, in any width, on terminals and in logs; and nothing breaks a job."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pty
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.engine.status import JobStatus, Phase
from noria.engine.terminal.figures import (
    describe,
    duration_text,
    fit,
    fraction,
    percent_text,
    size_text,
)
from noria.engine.terminal.live import REDRAW_SECONDS
from noria.engine.terminal.progress import LINE_SECONDS, Progress, Style

EMPTY = JobStatus(job="7f3a", phase=Phase.PLANNING, updated_seconds=0)
MOVING = replace(
    EMPTY,
    phase=Phase.MOVING,
    run_seconds=3700,
    objects_total=1_002_345_987,
    objects_done=512_345_123,
    bytes_total=10_123_456_789_012_345,
    bytes_done=6_200_000_000_000_000,
    outcomes={"TRANSFERRED": 9, "ALREADY_PRESENT": 40, "FAILED": 1200},
    shards={"pending": 700, "leased": 64, "settled": 236, "quarantined": 2},
    workers=64,
    workers_lost=3,
    bytes_per_second=8.12e9,
    objects_per_second=12_345.6,
    eta_seconds=483_000,
)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(slave, "w")
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def look_on(self) -> Terminal:
        """Take in what is written, from now on."""
        self._reader.start()
        return self

    def written(self) -> str:
        """Close the stream; all that was written."""
        self.stream.close()
        self._reader.join()
        return self._written.decode()

    def hang_up(self) -> None:
        """A repeat does nothing."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        with contextlib.suppress(OSError):
            self.stream.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # no writer is left
            while piece := os.read(self._master, 65536):
                self._written += piece


@pytest.fixture
def terminal(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Terminal]:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def make(columns: int) -> Terminal:
        monkeypatch.setenv("COLUMNS", str(columns))  # rich asks standard input first, else
        made = Terminal()
        request.addfinalizer(made.hang_up)
        return made

    return make


def plain(text: str) -> str:
    """Without colours; each movement of the cursor begins a line."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", re.sub(r"\x1b\[[0-9;]*m", "", text))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.00 kB"),
        (1_000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_500, "1.00 MB"),
        (812_000_000, "812 MB"),
        (10_123_456_789_012_345, "10.1 PB"),
        (5e21, "5000 EB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (14_400, "4 h 0 min"),
        (483_000, "5 d 14 h"),
        (366 * 86_400, "1 y 1 d"),
        (1e300, "over 100 y"),
        (float("inf"), "over 100 y"),
        (float("nan"), "over 100 y"),
        (-5, "0 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_all_is_said_in_one_line() -> None:
    assert describe(MOVING) == (
        "moving, 61.2 %, 6.20 PB of 10.1 PB, 8.12 GB/s, ETA 5 d 14 h, "
        "512,345,123 of 1,002,345,987 objects, 1,200 failed, 12,346 objects/s, 40 already there, "
        "64 workers, 3 lost, 2 shards given up, 236 of 1,002 shards settled"
    )


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert describe(EMPTY) == "planning"


statuses = st.builds(
    JobStatus,
    job=st.just("7f3a"),
    phase=st.sampled_from(Phase),
    updated_seconds=st.just(0.0),
    run_seconds=st.floats(0, 1e9),
    objects_total=st.integers(0, 10**12),
    objects_done=st.integers(0, 10**12),
    bytes_total=st.integers(0, 10**19),
    bytes_done=st.integers(0, 10**19),
    outcomes=st.dictionaries(st.sampled_from(["FAILED", "TRANSFERRED"]), st.integers(0, 10**9)),
    shards=st.dictionaries(st.sampled_from(["pending", "settled"]), st.integers(0, 10**6)),
    workers=st.integers(0, 10_000),
    workers_lost=st.integers(0, 10_000),
    bytes_per_second=st.floats(0, 1e12),
    objects_per_second=st.floats(0, 1e9),
    eta_seconds=st.none() | st.floats(0, 1e12),
)


@given(statuses)
def test_any_status_can_be_described(status: JobStatus) -> None:
    assert describe(status).startswith(status.phase.value)
    done = fraction(status)
    assert 0 <= done <= 1
    if status.objects_done < status.objects_total:
        assert percent_text(done) != "100.0 %"


@given(st.lists(st.text(st.characters(codec="ascii"), min_size=1, max_size=30)), st.integers(0, 99))
def test_what_does_not_fit_is_left_out_from_the_end(cells: list[str], columns: int) -> None:
    line = fit(cells, columns)
    assert len(line) <= columns
    kept = next(count for count in range(len(cells), -1, -1) if line == "   ".join(cells[:count]))
    assert kept == len(cells) or len("   ".join(cells[: kept + 1])) > columns


@pytest.mark.parametrize("columns", [1, 2, 7, 20, 60, 80, 120, 300])
def test_the_display_keeps_within_any_width(
    terminal: Callable[[int], Terminal], columns: int
) -> None:
    screen = terminal(columns).look_on()
    with Progress(screen.stream) as progress:
        for status in (EMPTY, replace(EMPTY, phase=Phase.STARTING), MOVING):
            progress.show(status)
    shown = plain(screen.written())
    assert max(map(len, shown.splitlines())) <= columns
    if columns >= 60:
        for figure in ("6.20 PB of 10.1 PB", "8.12 GB/s", "ETA 5 d 14 h", "1,200 failed", "61.2 %"):
            assert figure in shown


def test_no_color_is_honoured(
    terminal: Callable[[int], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    colour = r"\x1b\[[0-9;]*3[0-9]"
    for no_colour in (False, True):
        if no_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        screen = terminal(80).look_on()
        with Progress(screen.stream) as progress:
            progress.show(MOVING)
        assert bool(re.search(colour, screen.written())) is not no_colour


def test_the_terminal_is_left_as_it_was(terminal: Callable[[int], Terminal]) -> None:
    screen = terminal(80).look_on()
    with Progress(screen.stream) as progress:
        progress.show(MOVING)
    text = screen.written()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # cursor hidden, shown again


def test_it_draws_four_times_a_second_at_most_and_always_the_last(
    terminal: Callable[[int], Terminal],
) -> None:
    screen, clock = terminal(80).look_on(), Clock()
    with Progress(screen.stream, clock=clock) as progress:
        for tick in range(1001):
            clock.now = 1000 + tick / 100
            progress.show(replace(MOVING, objects_done=tick))
    shown = plain(screen.written())
    drawn = re.findall(r"([\d,]+) of 1,002,345,987 objects", shown)
    assert len(set(drawn)) <= 10 / REDRAW_SECONDS + 2
    assert drawn[-1] == "1,000"


def test_showing_costs_next_to_nothing(terminal: Callable[[int], Terminal]) -> None:
    screen, clock = terminal(120).look_on(), Clock()
    began = time.process_time()
    with Progress(screen.stream, clock=clock) as progress:
        for tick in range(40):  # ten seconds of drawing, or more
            clock.now += REDRAW_SECONDS
            progress.show(replace(MOVING, objects_done=tick))
    assert time.process_time() - began < 0.5  # 5 % of a core


def test_a_dumb_terminal_gets_plain_lines(
    terminal: Callable[[int], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = terminal(80).look_on()
    with Progress(screen.stream) as progress:
        progress.show(MOVING)
    assert re.fullmatch(r"\S+Z moving, .*settled\r\n", screen.written())


def lines_of(stream: io.StringIO) -> list[str]:
    """What was written, each line without its time."""
    lines = stream.getvalue().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)
    return [line.partition(" ")[2] for line in lines]


def test_plain_lines_come_at_each_phase_and_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock=clock) as progress:
        progress.show(EMPTY)
        for tick in range(250):
            clock.now = 1000 + tick / 10
            progress.show(replace(MOVING, objects_done=tick))
        progress.show(replace(MOVING, phase=Phase.FINISHED))
        progress.show(replace(MOVING, phase=Phase.FINISHED))
    lines = lines_of(stream)
    assert [line.partition(",")[0] for line in lines] == ["planning", *["moving"] * 3, "finished"]
    assert [line.split(", ")[5] for line in lines[1:4]] == [
        f"{round(tick * LINE_SECONDS * 10)} of 1,002,345,987 objects" for tick in range(3)
    ]


def test_the_last_figures_are_said_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock=clock) as progress:
        progress.show(replace(MOVING, objects_done=1))
        progress.show(replace(MOVING, objects_done=2))
    assert [line.split(", ")[5].split()[0] for line in lines_of(stream)] == ["1", "2"]


def test_messages_cannot_play_tricks(terminal: Callable[[int], Terminal]) -> None:
    trick = "\x1b[2Jgone\r\n[bold]x[/bold] :smile:"
    stream, screen = io.StringIO(), terminal(80).look_on()
    with Progress(stream) as progress:
        progress.message(trick)
    assert lines_of(stream) == [" [2Jgone  [bold]x[/bold] :smile:"]
    with Progress(screen.stream) as progress:
        progress.show(MOVING)
        progress.message(trick)
    text = screen.written()
    assert "\x1b[2J" not in text
    assert "[bold]x[/bold] :smile:" in text


def test_a_message_that_the_stream_cannot_encode() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with Progress(stream) as progress:
        progress.message("søk")
    assert raw.getvalue().endswith(b" s\\xf8k\n")


def test_what_the_loggers_say_becomes_a_message_meanwhile() -> None:
    stream, log = io.StringIO(), logging.getLogger("noria.driver")
    with Progress(stream) as progress:
        log.warning("worker %s is given up", "3")
        progress.show(EMPTY)
    log.warning("not seen here")
    assert lines_of(stream) == ["warning: worker 3 is given up", "planning"]
    assert logging.getLogger("noria").propagate


def test_silent_says_nothing_and_leaves_the_loggers_alone() -> None:
    stream = io.StringIO()
    with Progress(stream, Style.SILENT) as progress:
        progress.show(MOVING)
        progress.message("hello")
        assert logging.getLogger("noria").propagate
    assert stream.getvalue() == ""


@pytest.mark.parametrize("style", [Style.AUTO, Style.PLAIN])
def test_a_terminal_that_goes_away_does_not_end_the_job(
    terminal: Callable[[int], Terminal], style: Style
) -> None:
    for hangs_up in (True, False):
        screen, clock = terminal(80), Clock()
        with Progress(screen.stream, style, clock=clock) as progress:
            progress.show(MOVING)
            screen.hang_up() if hangs_up else screen.stream.close()
            for phase in Phase:
                progress.show(replace(MOVING, phase=phase))
                progress.message("anybody there?")


@pytest.mark.parametrize("style", [Style.AUTO, Style.PLAIN])
def test_a_terminal_that_is_held_does_not_hold_the_job(
    terminal: Callable[[int], Terminal], style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.engine.terminal.progress.END_SECONDS", 0.1)
    screen, clock = terminal(80), Clock()
    with Progress(screen.stream, style, clock=clock) as progress:
        for tick in range(2000):
            clock.now += 60
            progress.show(replace(MOVING, objects_done=tick))
            progress.message("anybody there?")


def test_a_full_disk_does_not_end_the_job() -> None:
    with open("/dev/full", "w", buffering=1) as full:
        with Progress(full) as progress:
            progress.show(MOVING)
            progress.message("anybody there?")
            progress.show(replace(MOVING, phase=Phase.FINISHED))
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # so that it can be closed
