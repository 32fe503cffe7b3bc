"""A count and its noun, as people read them."""

from __future__ import annotations


def count_text(number: int, noun: str) -> str:
    """1 object, 0 objects, 2,000 objects; 1 entry, 2 entries. `noun` is in the singular."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"
