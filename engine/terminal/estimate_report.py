"""What an estimate says: one JSON document, or lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, Final

from noria.engine.estimate.counts import as_document
from noria.engine.estimate.estimate import Estimate
from noria.engine.terminal.figures import duration_text, size_text
from noria.manifests.count_text import count_text

BAR: Final = 30
"""Characters of the longest bar."""


def estimate_summary(found: Estimate) -> dict[str, Any]:
    traits = found.traits
    return {
        **as_document(found.counts),
        "assumed": list(assumptions(found)),
        "source": traits.source_provider,
        "target": traits.target_provider,
        "means": asdict(found.means),
        "constants": asdict(found.model),
        "window_share": found.windows.share,
        "seconds_of_work": found.forecast.seconds,
        "bytes_per_second": found.forecast.rate,
        "bound_by": found.forecast.bound_by,
        "days": found.days,
        "what_if": [
            {
                "workers": each.means.workers,
                "bandwidth": each.means.bandwidth,
                "days": each.days,
            }
            for each in found.table
        ],
        "costs": [
            {
                "end": cost.end,
                "provider": cost.provider,
                "currency": cost.currency,
                "region": cost.region,
                "tier": cost.tier,
                "total": cost.total if cost.currency else None,
                "items": dict(cost.items),
                "verified": not cost.unverified and cost.currency is not None,
                "known": None if cost.known is None else str(cost.known),
            }
            for cost in found.costs
        ],
        "prices": {"file": found.prices.place, "dated": str(found.prices.dated)},
    }


def assumptions(found: Estimate) -> Sequence[str]:
    """What was not measured, for people."""
    said = []
    if found.model.measured is None:
        model = found.model
        said.append(
            f"nothing was measured: {size_text(model.worker_rate)}/s for each worker, and each "
            f"object or part costs as much as {size_text(model.transfer_bytes)} besides its bytes; "
            "--probe measures both here"
        )
    else:
        said.append(f"measured: {found.model.measured}")
    if not found.is_probed:
        said.append(
            "the target was not probed, and is taken for one that writes only if absent: if it "
            "does not, each object takes a HEAD more there"
        )
    return said


def print_estimate(summary: Mapping[str, Any]) -> None:
    print(
        f"{count_text(summary['objects'], 'object')}, {size_text(summary['bytes'])}, in "
        f"{count_text(summary['transfers'], 'transfer')} ({summary['parts']:,} of them parts)"
    )
    _print_sizes(summary["sizes"])
    for end in ("source", "target"):
        counts = summary["requests"][end]
        text = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        print(f"requests at the {end} ({summary[end]}): {text or 'none'}")
    means = summary["means"]
    print(
        f"{duration_text(summary['seconds_of_work'])} of work with "
        f"{count_text(means['workers'], 'worker')}, "
        f"{size_text(summary['bytes_per_second'])}/s, bound by {summary['bound_by']}"
        + _calendar(summary)
    )
    for line in summary["assumed"]:
        print(f"  {line}")
    _print_table(summary["what_if"])
    for cost in summary["costs"]:
        _print_cost(cost)
    prices = summary["prices"]
    print(
        f"prices of {prices['dated']} ({prices['file']}): they change, and differ by region, class "
        "and contract; check them, and name your own with --prices"
    )


def _calendar(summary: Mapping[str, Any]) -> str:
    if summary["window_share"] == 1:
        return ""
    share = 100 * summary["window_share"]
    took = duration_text(summary["days"] * 86_400)
    return f"; {took} by the calendar: windows are open {share:.0f} % of the week"


def _print_sizes(sizes: Sequence[Mapping[str, int]]) -> None:
    if not sizes:
        return
    most = max(each["objects"] for each in sizes)
    rows = [
        (
            "empty" if each["below"] == 1 else f"below {_binary(each['below'])}",
            *count_text(each["objects"], "object").split(" "),
            size_text(each["bytes"]),
            "#" * max(1, round(BAR * each["objects"] / most)),
        )
        for each in sizes
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for name, objects, noun, size, bar in rows:
        print(
            f"  {name.ljust(widths[0])}  {objects.rjust(widths[1])} {noun.ljust(widths[2])}  "
            f"{size.rjust(widths[3])}  {bar}"
        )


def _binary(size: int) -> str:
    """A power of two: 512 B, 64 KiB."""
    place = (size.bit_length() - 1) // 10
    return f"{size >> 10 * place} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB')[place]}"


def _print_table(table: Sequence[Mapping[str, Any]]) -> None:
    print("what if (workers, bandwidth):")
    header: list[str] | None = None
    rows = []
    for workers, cells in groupby(table, key=lambda each: each["workers"]):
        row = list(cells)
        if header is None:
            header = ["workers", *(_bandwidth(each["bandwidth"]) for each in row)]
        rows.append([f"{workers:,}", *(duration_text(each["days"] * 86_400) for each in row)])
    lines = [header or [], *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        print("  " + "  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)))


def _bandwidth(rate: float | None) -> str:
    return "no limit" if rate is None else f"{size_text(rate)}/s"


def _print_cost(cost: Mapping[str, Any]) -> None:
    where = f"{cost['end']} ({cost['provider']})"
    if cost["currency"] is None:
        print(f"cost at the {where}: no prices are known; add them with --prices")
        return
    items = ", ".join(f"{what} {amount:,.2f}" for what, amount in cost["items"].items())
    unsure = "" if cost["verified"] else "; NOT VERIFIED"
    print(
        f"cost at the {where}: {cost['total']:,.2f} {cost['currency']}"
        + (f" ({items})" if items else "")
        + f"; {cost['region']}, {cost['tier']}, as of {cost['known']}{unsure}"
    )
