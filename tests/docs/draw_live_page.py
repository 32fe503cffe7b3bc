"""Draw the picture of the live page that the documentation shows, from a run.

    python -m tests.docs.draw_live_page docs/pages/how-to/watch.png [dark]

A job between two folders, held by a guard, so that the page says at its top what keeps it from
going on. Needs Chromium, and a minute.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tests.support.browser import chromium
from tests.support.moves import NORIA

SMALL: Final = 700
LARGE: Final = 24
MOVES_SECONDS: Final = 40.0
"""So that the curves have a shape."""
HELD: Final = "document.getElementById('phase')?.textContent === 'moving, held by a guard'"


def draw(place: Path, scheme: str) -> None:
    """Write the picture, for readers of this colour scheme."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as url:
        time.sleep(MOVES_SECONDS)
        with chromium() as browser:
            page = browser.open(url, width=1100, height=800)
            page.prefer(scheme)
            page.wait_for(HELD, seconds=60)
            time.sleep(1.0)  # the curves are drawn after the words
            place.write_bytes(page.screenshot())
            assert page.complaints == []


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The address of the live page of a job that moves."""
    source = folder / "genomes"
    source.mkdir()
    (folder / "archive").mkdir()
    for number in range(SMALL):
        (source / f"read-{number:04}").write_bytes(bytes(40_000 + 90 * number))
    for number in range(LARGE):
        (source / f"reference-{number:02}").write_bytes(bytes(16_000_000))
    deadline = datetime.now(UTC) + timedelta(minutes=45)
    (folder / "genomes-to-archive.toml").write_text(
        f'[source]\nurl = "{source.as_uri()}"\n'
        "[source.guard]\ncommand = 'exit 1'\nevery = 30\nfloor = 0.5\n"
        f'[target]\nurl = "{(folder / "archive").as_uri()}"\n'
        '[run]\nbandwidth = "6MB/s"\nmetrics_address = "127.0.0.1:0"\n'
        f'deadline = "{deadline:%Y-%m-%dT%H:%M:%SZ}"\n'
    )
    process = subprocess.Popen(
        [NORIA, "run", "genomes-to-archive.toml", "--no-progress"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = (re.search(r"live at (\S+)", line) for line in process.stderr)
        found = next(filter(None, said))
        yield found[1]
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    draw(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "light")
