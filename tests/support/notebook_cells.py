"""Runs the cells of a notebook as a kernel would, without one: in a shell of IPython.

    python -m tests.support.notebook_cells NOTEBOOK

Prints a JSON list with one object for each code cell: `result` is what the cell's last line is, as
text, `printed` what it wrote, `displayed` what it displayed and drew again, in order.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def run_cells(notebook: Path) -> list[dict[str, Any]]:
    """Run all code cells in order. Raises what a cell raises."""
    # By its name: IPython is there for the tests alone, and this file is checked without it.
    shell = import_module("IPython.core.interactiveshell").InteractiveShell.instance()
    capture = import_module("IPython.core.displaypub").CapturingDisplayPublisher
    # A result is taken, and not printed: a kernel sends it apart from what is printed.
    shell.displayhook.write_output_prompt = shell.displayhook.write_format_data = _nothing
    done = []
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        shell.display_pub = capture()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            ended = shell.run_cell("".join(cell["source"]) + "\n")
        ended.raise_error()
        done.append(
            {
                "result": None if ended.result is None else repr(ended.result),
                "printed": printed.getvalue(),
                "displayed": shell.display_pub.outputs,
            }
        )
    return done


def _nothing(*shown: object) -> None:
    pass


if __name__ == "__main__":
    cells = run_cells(Path(sys.argv[1]))
    print(json.dumps(cells))
