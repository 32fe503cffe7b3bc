"""Which tests `make test` leaves to `make test-long`."""

from __future__ import annotations

from pathlib import Path

LONG_TESTS = Path(__file__).parents[1] / "long_tests.txt"


def long_tests() -> frozenset[str]:
    """The tests of LONG_TESTS, as pytest names them from the folder `tests`."""
    lines = LONG_TESTS.read_text().splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))
