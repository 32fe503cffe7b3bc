"""What the null stores hold in tests, and what these need."""

from __future__ import annotations

import shutil

import pytest

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None, reason="there is no C compiler (cc)"
)

MIB = 1 << 20
RUN_SECONDS = 100
BIG = "big.bin"
OBJECTS = {
    BIG: 20 * MIB + 7,
    "empty": 0,
    "names/with space & 100%+é<b>.txt": 70_000,
    **{f"small/{number % 3}/{number:03}": 4096 + number for number in range(60)},
}
