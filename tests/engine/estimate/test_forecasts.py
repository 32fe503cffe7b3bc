"""Time, windows and prices of an estimate."""

from __future__ import annotations

import importlib
from datetime import date
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from typer.testing import CliRunner

from noria.engine.cli import app
from noria.engine.estimate.counts import WorkCounts
from noria.engine.estimate.prices import costs, read_prices
from noria.engine.estimate.rates import Means, RateModel, forecast
from noria.engine.estimate.windows import parse_windows
from noria.engine.steering.week import WEEK_MINUTES
from noria.manifests.counters import StoreOperation
from noria.manifests.errors import ConfigurationError

HOUR = 3600.0


def counts(size: int = 10**12, transfers: int = 10**5) -> WorkCounts:
    kinds = StoreOperation
    return WorkCounts(
        objects=transfers,
        bytes=size,
        parts=0,
        transfers=transfers,
        classes=(),
        source={kinds.GET: transfers, kinds.LIST: 1},
        target={kinds.PUT: transfers, kinds.LIST: 1},
    )


def test_what_is_scarcest_bounds_the_job() -> None:
    def bound(bandwidth: float | None = None, transfers: int | None = None) -> str:
        means = Means(workers=10, bandwidth=bandwidth, transfers=transfers)
        return forecast(counts(), RateModel(), means, source="azure", target="aws").bound_by

    assert bound() == "workers"
    assert bound(bandwidth=1e8) == "bandwidth"
    assert bound(transfers=2) == "transfers"
    slow = forecast(
        counts(10**9, 10**6), RateModel(), Means(workers=99), source="azure", target="ovhcloud"
    )
    assert slow.bound_by == "writes a second at the target"
    assert slow.seconds == pytest.approx(10**6 / 300, rel=0.01)


def test_twice_the_workers_take_half_the_time() -> None:
    model = RateModel(fixed_seconds=0, page_seconds=0)
    one, two = (
        forecast(counts(), model, Means(workers=n), source="azure", target="aws").seconds
        for n in (1, 2)
    )
    assert one == pytest.approx(2 * two)
    assert one == pytest.approx((10**12 + 10**5 * 128 * 1024) / 150e6)


def test_a_listing_that_was_timed_is_not_guessed_by_its_pages() -> None:
    def seconds(model: RateModel) -> float:
        means = Means(workers=1)
        return forecast(counts(), model, means, source="azure", target="aws").seconds

    by_pages = seconds(RateModel(page_seconds=160))
    assert seconds(RateModel(page_seconds=160, listing_seconds=500)) == pytest.approx(
        by_pages + 500 - 10
    ), "the target's page is yet to come"


def test_windows() -> None:
    assert parse_windows([]).minutes == frozenset(range(WEEK_MINUTES))
    nights = parse_windows(["22:00-06:00"])
    assert len(nights.minutes) == 7 * 8 * 60
    assert nights.elapsed_seconds(HOUR) == HOUR
    assert nights.elapsed_seconds(8 * HOUR) == 8 * HOUR, "it ends as the window does"
    assert nights.elapsed_seconds(16 * HOUR) == 32 * HOUR
    assert nights.elapsed_seconds(0) == 0
    assert nights.elapsed_seconds(8 * HOUR + 60) == 24 * HOUR + 60
    assert nights.elapsed_seconds(9 * HOUR) == 25 * HOUR
    assert nights.elapsed_seconds(56 * HOUR) <= 7 * 24 * HOUR
    assert nights.elapsed_seconds(57 * HOUR) == 7 * 24 * HOUR + HOUR
    weekend = parse_windows(["sat,sun 00:00-24:00", "mon-fri 20:00-06:00"])
    assert len(weekend.minutes) == 60 * (48 + 4 * 10 + 4)
    around = parse_windows(["fri-mon 10:00-11:00"])
    assert len(around.minutes) == 4 * 60


@pytest.mark.parametrize("text", ["", "22-06", "25:00-26:00", "someday 22:00-06:00", "1:60-2:00"])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a window"):
        parse_windows([text])


def test_prices_are_dated_and_say_where_they_stand() -> None:
    prices = read_prices()
    assert {price.provider for price in prices.prices} == {"azure", "aws", "scaleway", "ovhcloud"}
    for price in prices.prices:
        assert price.source.startswith("https://")
        assert date(2020, 1, 1) < price.known <= prices.dated
        assert price.currency in ("EUR", "USD")
        assert price.region
        assert price.tier


def test_costs_of_requests_and_of_steps_of_egress() -> None:
    azure, aws = costs(counts(), read_prices(), source="azure", target="aws")
    # 1 TB: 100 GB are free.
    assert azure.items["egress"] == pytest.approx(900 * 0.087)
    assert azure.items["read"] == pytest.approx(10**5 * 0.004 / 10_000)
    assert aws.items["write"] == pytest.approx(10**5 * 0.005 / 1000)
    assert "egress" not in aws.items
    assert azure.unverified
    large, _ = costs(counts(60 * 10**12), read_prices(), source="azure", target="aws")
    steps = 10_000 * 0.087 + 40_000 * 0.083 + 9_900 * 0.07
    assert large.items["egress"] == pytest.approx(steps)


def test_a_store_without_prices_has_no_cost() -> None:
    _, local = costs(counts(), read_prices(), source="scaleway", target="local")
    assert (local.currency, local.items) == (None, {})


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "dated = 2026-01-01\n[[price]]\nprovider = 'aws'\nwhat = 'write'\namount = 1.0\n"
        "per = 1000\ncurrency = 'EUR'\nregion = 'r'\ntier = 't'\nsource = 'https://x'\n"
        "known = 2026-01-01\nverified = true\n"
    )
    _, aws = costs(counts(), read_prices(path), source="azure", target="aws")
    assert (aws.total, aws.unverified) == (100, False)
    source, _ = costs(counts(10**12), read_prices(path), source="aws", target="azure")
    assert source.items == {}, "it has no price for what leaves"
    text = path.read_text()
    for right, wrong, words in (
        ("known = 2026-01-01", "known = '2026-01-01'", "is not a date"),
        ("amount = 1.0", "amount = nan", "is not a number"),
        ("amount = 1.0", "amount = 'much'", "is not a list of prices"),
        ("verified = true", "verified = 'yes'", "neither true nor false"),
    ):
        path.write_text(text.replace(right, wrong))
        with pytest.raises(ConfigurationError, match=words):
            read_prices(path)
    path.write_text(text)
    path.write_text(path.read_text().replace("'write'", "'wish'"))
    with pytest.raises(ConfigurationError, match="is not one of"):
        read_prices(path)
    path.write_text("[[price]]\nprovider = 'aws'\n")
    with pytest.raises(ConfigurationError, match="is not a list of prices"):
        read_prices(path)


def said(exit_code: int, *arguments: str | Path) -> str:
    """What the command prints, errors included."""
    importlib.import_module("noria.__main__")  # puts all commands together
    found = CliRunner().invoke(app, ["estimate", *map(str, arguments)], catch_exceptions=False)
    assert found.exit_code == exit_code, found.stderr
    return found.stdout + found.stderr


def test_a_picture_is_drawn_and_holds_what_it_says(tmp_path: Path) -> None:
    for name, size in (("empty", 0), ("small", 10), ("large", 20_000_000)):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_bytes(b"x" * size)
    (tmp_path / "target").mkdir()
    picture = tmp_path / "picture.svg"
    ends = (tmp_path / "source", tmp_path / "target")
    out = said(0, *ends, "--workers", "4", "--plot", picture)
    assert "3 objects, 20.0 MB" in out
    assert "not verified" not in out.lower()
    assert "nothing was measured" in out
    drawn = fromstring(picture.read_text())
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert "no limit" in texts
    assert sum(element.tag.endswith("polyline") for element in drawn.iter()) == 5
    assert list((tmp_path / "target").iterdir()) == []


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "name a FILE.svg" in said(2, tmp_path, tmp_path, "--plot", tmp_path / "x.png")


def test_a_limit_of_the_job_file_bounds_the_estimate(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    with open(tmp_path / "lake/large", "wb") as file:
        file.truncate(100_000_000)
    job_file = tmp_path / "job.toml"
    job_file.write_text('source = "lake"\ntarget = "./copy"\n[run]\nbandwidth = "1MB/s"\n')
    assert "1.00 MB/s, bound by bandwidth" in said(0, job_file)
    assert "10.0 MB/s, bound by bandwidth" in said(0, job_file, "--bandwidth", "10MB/s")
