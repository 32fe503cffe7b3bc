"""What providers charge, by a file that anybody may edit: prices.toml, or the one of --prices.

A price is right on the day that it was read, in its region and class. The file says the day of
each, where it stands, and whether it was read there or is only known from elsewhere.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any, Final

from noria.engine.estimate.counts import WorkCounts
from noria.manifests.counters import StoreOperation
from noria.manifests.errors import ConfigurationError

GB: Final = 10**9
_KINDS: Final = {
    StoreOperation.GET: "read",
    StoreOperation.HEAD: "read",
    StoreOperation.TAGS: "read",
    StoreOperation.LIST: "list",
    StoreOperation.PUT: "write",
    StoreOperation.PUT_PART: "write",
    StoreOperation.CREATE_UPLOAD: "write",
    StoreOperation.COMPLETE: "write",
}
"""What a request counts as. Others are free wherever prices are known."""
_WHAT: Final = ("read", "write", "list", "egress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One price of one provider."""

    provider: str
    what: str
    """read, write, list: of requests; egress: of bytes that leave to the internet."""
    amount: float
    per: int
    """Requests, or GB of 10^9 bytes."""
    currency: str
    region: str
    tier: str
    source: str
    known: date
    """When the price was so."""
    verified: bool
    """It was read at `source` on that day."""
    from_gb: float = 0.0
    """Of egress: it holds for what goes beyond this in a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    dated: date
    prices: tuple[Price, ...]
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one end charges."""

    end: str
    provider: str
    items: Mapping[str, float]
    """What -> amount; empty if no prices are known."""
    currency: str | None = None
    region: str | None = None
    tier: str | None = None
    unverified: bool = False
    known: date | None = None
    """The oldest day of a price that was used."""

    @property
    def total(self) -> float:
        return sum(self.items.values())


def read_prices(path: Path | None = None) -> PriceList:
    """The prices of a file; None: of those that come with Noria. Raises ConfigurationError."""
    place = "prices.toml" if path is None else str(path)
    try:
        if path is None:
            text = resources.files(__package__).joinpath("prices.toml").read_text("utf-8")
        else:
            text = path.read_text("utf-8")
        document = tomllib.loads(text)
        prices = tuple(_price(given, place) for given in document["price"])
        dated = document["dated"]
        if not isinstance(dated, date):
            raise TypeError("dated is not a date")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigurationError(f"{place} is not a list of prices: {error}") from error
    return PriceList(dated=dated, prices=prices, place=place)


def costs(counts: WorkCounts, prices: PriceList, *, source: str, target: str) -> tuple[Cost, Cost]:
    """What both ends charge for the move, egress at the source included."""
    return (
        _cost("source", source, counts.source, counts.bytes, prices.prices),
        _cost("target", target, counts.target, 0, prices.prices),
    )


def _price(given: Mapping[str, Any], place: str) -> Price:
    price = Price(**given)
    numbers = (price.amount, price.per, price.from_gb)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"a price of {price.provider} is not a number")
    if price.what not in _WHAT or min(numbers) < 0 or not price.per:
        raise ConfigurationError(
            f"{place}: a price of {price.provider} is not one of {', '.join(_WHAT)}, or is below 0"
        )
    if type(price.known) is not date:
        raise ValueError(f'known = "{price.known}" is not a date: write it as 2026-01-31, unquoted')
    if type(price.verified) is not bool:
        raise ValueError(f"verified of a price of {price.provider} is neither true nor false")
    return price


def _cost(
    end: str,
    provider: str,
    requests: Mapping[StoreOperation, int],
    leaving_bytes: int,
    prices: Sequence[Price],
) -> Cost:
    """Of the first region and tier that the list has for this provider."""
    mine = [price for price in prices if price.provider == provider]
    if not mine:
        return Cost(end=end, provider=provider, items={})
    first = mine[0]
    place = (first.region, first.tier, first.currency)
    mine = [price for price in mine if (price.region, price.tier, price.currency) == place]
    items: dict[str, float] = {}
    for price in mine:
        if price.what != "egress":
            count = sum(n for kind, n in requests.items() if _KINDS.get(kind) == price.what)
            items[price.what] = items.get(price.what, 0.0) + price.amount * count / price.per
    if leaving_bytes:
        items["egress"] = _egress(leaving_bytes / GB, mine)
    return Cost(
        end=end,
        provider=provider,
        items={what: amount for what, amount in items.items() if amount},
        currency=first.currency,
        region=first.region,
        tier=first.tier,
        unverified=not all(price.verified for price in mine),
        known=min(price.known for price in mine),
    )


def _egress(leaving_gb: float, prices: Sequence[Price]) -> float:
    """As if all left in one month: what is spread over several begins again at the first step."""
    steps = sorted(
        (price for price in prices if price.what == "egress"), key=lambda price: price.from_gb
    )
    ends = [*(price.from_gb for price in steps[1:]), float("inf")]
    return sum(
        max(0.0, min(leaving_gb, end) - price.from_gb) * price.amount / price.per
        for price, end in zip(steps, ends, strict=False)  # without a price there is one end
    )
