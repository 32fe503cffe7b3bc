"""Which leaves a sample is of, and how many it takes: pure, and the same for whoever computes it.

The order is a shuffle whose dice are hashes of a checkpoint: so nobody chooses who has not chosen
the checkpoint. docs/pages/reference/proof-format.md has it for others; sample.py follows that page.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Final

DRAW_PREFIX: Final = b"noria.draw.1\0"
_RULE: Final = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,9})?)%@([0-9]{1,2}(?:\.[0-9]{1,9})?)%")
_DIGITS: Final = 50
"""Logarithms are computed to so many: an object too few would be a wrong claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRule:
    """What a sample without damage lets one say."""

    damaged_at_most: Decimal
    """Percent of all objects, above 0 and below 100."""
    confidence: Decimal
    """Percent: how likely more damage than that would have been found."""

    @property
    def objects(self) -> int:
        """How many have to be drawn: ceil(ln(1 - confidence) / ln(1 - damaged_at_most)).

        Whoever draws without replacement, as here, is at least as likely to find damage.
        """
        with localcontext(prec=_DIGITS):
            missed, sound = (1 - each / 100 for each in (self.confidence, self.damaged_at_most))
            return math.ceil(missed.ln() / sound.ln())

    def __str__(self) -> str:
        return f"{self.damaged_at_most}%@{self.confidence}%"


def read_rule(text: str) -> SampleRule:
    """The rule of a text such as 0.1%@99%. Raises ValueError."""
    found = _RULE.fullmatch(text.replace(" ", ""))
    if not found or not (Decimal(found[1]) and Decimal(found[2])):
        raise ValueError(
            "a sample is asked for as 0.1%@99%: damaged at most, and with which confidence"
        )
    return SampleRule(damaged_at_most=Decimal(found[1]), confidence=Decimal(found[2]))


def draw_order(checkpoint_digest: bytes, seed: str, size: int) -> Iterator[int]:
    """All numbers below `size`, each once, in the order in which they are drawn.

    `checkpoint_digest` is the SHA-256 of the checkpoint's text. It takes memory for what was drawn,
    not for `size`.
    """
    start = DRAW_PREFIX + checkpoint_digest + seed.encode()
    moved: dict[int, int] = {}
    for step in range(size):
        dice = hashlib.sha256(start + step.to_bytes(8, "big")).digest()
        place = step + int.from_bytes(dice, "big") % (size - step)
        yield moved.get(place, place)
        moved[place] = moved.pop(step, step)
