"""How a job looks in a notebook. IPython is not needed: it is there if a notebook runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from html import escape
from importlib import import_module
from typing import Final

from noria.engine.job_state import job_state
from noria.engine.status import JobStatus
from noria.engine.terminal.figures import (
    byte_cells,
    duration_text,
    fraction,
    last_cells,
    object_cells,
    percent_text,
)

_TERMINAL_SHELL: Final = "TerminalInteractiveShell"
"""The shell of IPython in a terminal, which would print each update below the one before."""


def html_of(status: JobStatus) -> str:
    """A bar, and below it the figures that a terminal has. No object names, nothing is loaded."""
    head = [f"<b>{escape(job_state(status).words)}</b>", f"job {escape(status.job)}"]
    if status.run_seconds:
        head.append(f"for {duration_text(status.run_seconds)}")
    done = fraction(status)
    lines = [
        " &ensp; ".join(head),
        f'<progress max="1" value="{done:.3f}" style="width: 24em"></progress> '
        f"{percent_text(done)}",
        *(
            " &ensp; ".join(map(escape, cells))
            for cells in (byte_cells(status), object_cells(status), last_cells(status))
            if cells
        ),
    ]
    return "".join(f"<div>{line}</div>" for line in lines)


def open_display(shown: object) -> Callable[[], object]:
    """Show an object below the cell that runs; returns what draws it again, in the same place.

    The object says what it looks like by `_repr_mimebundle_`. Outside a notebook nothing is shown.
    """
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or type(shell).__name__ == _TERMINAL_SHELL:
        return lambda: None
    handle = import_module("IPython.display").display(shown, display_id=True)
    return lambda: handle.update(shown)
