"""A disk that is soon full."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A file system of its own, which only root can mount."""

    def __init__(self, place: Path, size: str) -> None:
        self._place, self._size = place, size

    def __enter__(self) -> None:
        self._place.mkdir()
        command: list[str | Path] = [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size={self._size}",
            "tmpfs",
            self._place,
        ]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("only root can mount a small disk here")

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self._place], check=True)
