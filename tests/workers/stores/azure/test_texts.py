"""Columns of a page are what reading text by text would give."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pyarrow as pa
import pytest

from noria.workers.stores.azure.texts import CRC_BYTES, MD5_BYTES, checksums, timestamps

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("nulls", [0.0, 0.3])
def test_dates(nulls: float) -> None:
    chance = random.Random(7)
    dates = [
        None if chance.random() < nulls else EPOCH + timedelta(seconds=chance.randrange(2**32))
        for _ in range(500)
    ]
    texts = [None if date is None else format_datetime(date, usegmt=True) for date in dates]
    found = timestamps(pa.array(texts, pa.string()).slice(3))
    assert found.type == pa.timestamp("ms", "UTC")
    assert found.to_pylist() == dates[3:]


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "yesterday",
        "Thu, 26 Nov 2026 10:00:00 UTC",
        "Thu, 26 Non 2026 10:00:00 GMT",
        "Thu, 31 Feb 2026 10:00:00 GMT",
        "Thu, 26 Nov 2026 25:00:00 GMT",
        "Thu, +6 Nov 2026 10:00:00 GMT",
    ],
)
def test_what_is_no_date_is_refused(odd: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        timestamps(pa.array(["Thu, 26 Nov 2026 10:00:00 GMT", odd], pa.string()))


@pytest.mark.parametrize("nbytes", [MD5_BYTES, CRC_BYTES])
@pytest.mark.parametrize("nulls", [0.0, 0.3])
def test_checksums(nbytes: int, nulls: float) -> None:
    chance = random.Random(7)
    values = [None if chance.random() < nulls else chance.randbytes(nbytes) for _ in range(500)]
    texts = pa.array([v and base64.b64encode(v).decode() for v in values], pa.string())
    assert checksums(texts.slice(2), nbytes).to_pylist() == values[2:]


def test_checksums_of_other_lengths_are_read_one_by_one() -> None:
    texts = ["AAAA", None, "AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAAAA"]
    found = checksums(pa.array(texts, pa.string()), MD5_BYTES)
    assert found.to_pylist() == [b"\0" * 3, None, b"\0" * 16, b"\0" * 18]


@pytest.mark.parametrize("odd", ["AAA", "A", "AAAAAAAAAAAAAAAAAAAA*A=="])
def test_what_is_no_checksum_is_refused_or_another(odd: str) -> None:
    good = base64.b64encode(b"0123456789abcdef").decode()
    try:
        expected = base64.b64decode(odd)
    except ValueError:
        with pytest.raises(ValueError, match=r"base64|padding"):
            checksums(pa.array([good, odd], pa.string()), MD5_BYTES)
    else:
        found = checksums(pa.array([good, odd], pa.string()), MD5_BYTES)
        assert found.to_pylist() == [b"0123456789abcdef", expected]


def test_no_texts_at_all() -> None:
    none = pa.nulls(3, pa.string())
    assert timestamps(none).to_pylist() == [None] * 3
    assert checksums(none, MD5_BYTES).to_pylist() == [None] * 3
