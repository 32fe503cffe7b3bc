"""Samples are drawn evenly, alike by both implementations, and are as large as their rule says."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from noria.benchmarks.servers import ROOT
from noria.manifests.proof import sample
from noria.manifests.proof.draw import draw_order, read_rule

PAGE = ROOT / "docs/pages/reference/proof-format.md"
DRAWS = 4_000


def digest_of(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


@given(st.binary(min_size=32, max_size=32), st.text(max_size=20), st.integers(0, 400))
def test_each_number_is_drawn_once_and_alike_by_both(digest: bytes, seed: str, size: int) -> None:
    drawn = [*draw_order(digest, seed, size)]
    assert sorted(drawn) == [*range(size)]
    assert drawn == [*sample.order(digest.hex(), seed, size)]


def test_a_few_of_many_take_no_more_than_they_are() -> None:
    first = [*islice(draw_order(digest_of(1), "", 10**12), 5_000)]
    assert len(set(first)) == 5_000
    assert min(first) < 10**9 < 99 * 10**10 < max(first)


@pytest.mark.parametrize(("size", "count"), [(20, 5), (7, 6), (64, 1)])
def test_all_are_as_likely_to_be_drawn(size: int, count: int) -> None:
    """Chi-square with size - 1 degrees of freedom: five of its deviations above its mean."""
    found = Counter[int]()
    for number in range(DRAWS):
        found.update(islice(draw_order(digest_of(number), "", size), count))
    expected = DRAWS * count / size
    distance = sum((found[each] - expected) ** 2 / expected for each in range(size))
    assert distance < (size - 1) + 5 * (2 * (size - 1)) ** 0.5


def test_the_first_and_the_second_draw_know_nothing_of_each_other() -> None:
    pairs = Counter(tuple(islice(draw_order(digest_of(n), "x", 5), 2)) for n in range(DRAWS))
    expected = DRAWS / 20
    assert len(pairs) == 20
    assert sum((each - expected) ** 2 / expected for each in pairs.values()) < 19 + 5 * 38**0.5


def test_the_seed_and_the_checkpoint_change_the_draw() -> None:
    def first(digest: bytes, seed: str) -> list[int]:
        return [*islice(draw_order(digest, seed, 10**6), 5)]

    one = first(digest_of(1), "")
    assert one == first(digest_of(1), "")
    assert one != first(digest_of(2), "") != first(digest_of(1), "a") != one


def test_the_page_has_an_example_of_a_draw() -> None:
    found = re.search(
        r"`([0-9a-f]{64})` and the seed `(\w+)` draw (.*?) of 1,000", PAGE.read_text()
    )
    assert found
    drawn = [*islice(draw_order(bytes.fromhex(found[1]), found[2], 1_000), 5)]
    assert found[3] == ", ".join(map(str, drawn))


@given(st.integers(1, 9_999), st.integers(1, 9_999))
@example(10, 9_900)
@example(1_000, 1_900)
@example(5_000, 5_000)
@settings(max_examples=60)
def test_a_sample_is_just_as_large_as_its_rule_says(damaged: int, confidence: int) -> None:
    """In ten thousandths. So many would all be sound with less than the rest of the confidence.

    If one fewer would do to the last digit, it may be one more.
    """
    rule = read_rule(f"{damaged / 100:.2f}%@{confidence / 100:.2f}%")
    sound, missed = 1 - Fraction(damaged, 10_000), 1 - Fraction(confidence, 10_000)
    assert sound**rule.objects <= missed
    assert rule.objects == 1 or sound ** (rule.objects - 1) >= missed


def test_known_sizes() -> None:
    assert read_rule("0.1%@99%").objects == 4_603
    assert read_rule("1 % @ 95 %").objects == 299
    assert str(read_rule("0.1%@99%")) == "0.1%@99%"


@pytest.mark.parametrize(
    "text", ["", "0.1", "0%@99%", "0.1%@0%", "100%@99%", "1%@100%", "1e-3%@9%"]
)
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"asked for as 0\.1%@99%"):
        read_rule(text)
