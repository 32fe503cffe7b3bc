"""The live display: five lines that are drawn over and over, on a terminal."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from noria.engine.job_state import job_state
from noria.engine.status import JobStatus
from noria.engine.terminal.figures import (
    byte_cells,
    duration_text,
    fit,
    fraction,
    last_cells,
    object_cells,
    percent_text,
    trouble_cells,
)

REDRAW_SECONDS: Final = 0.25
"""It is drawn at most this often."""
BAR_COLUMNS: Final = 100
"""A wider bar says no more."""


def live_view(stream: TextIO) -> LiveView | None:
    """One for this terminal; None if it is a dumb one."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return LiveView(console) if console.is_interactive else None


class LiveView:
    """Five lines that are drawn over and over."""

    every_seconds = REDRAW_SECONDS

    def __init__(self, console: Console) -> None:
        # What others print is not caught: it may go to a file, and comes from other processes.
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def show(self, status: JobStatus) -> None:
        self._live.update(_panel(status, self._live.console.width))
        if self._live.is_started:
            self._live.refresh()
        else:
            self._live.start(refresh=True)

    def message(self, line: str) -> None:
        self._live.console.print(line, soft_wrap=True)

    def close(self) -> None:
        self._live.stop()


def _panel(status: JobStatus, columns: int) -> Group:
    head = [job_state(status).words, f"job {status.job}"]
    if status.run_seconds:
        head.append(f"for {duration_text(status.run_seconds)}")
    lines = [Text(fit(head, columns), style="bold", no_wrap=True, overflow="crop")]
    for cells in (byte_cells(status), object_cells(status), last_cells(status)):
        lines.append(Text(fit(cells, columns), no_wrap=True, overflow="crop"))
    lines[2].highlight_regex(r"[\d,]+ failed", style="bold red")
    if trouble_cells(status):
        lines[3].stylize("bold red")
    done = fraction(status)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=1.0, completed=done, width=max(1, min(BAR_COLUMNS, columns - 9))),
        Text(percent_text(done), no_wrap=True, overflow="crop"),
    )
    return Group(lines[0], bar, *lines[1:])
