"""What `noria simulate` reports at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from rich.console import Console
from rich.table import Table

from noria.benchmarks.simulate.passes import SimulatedPass
from noria.benchmarks.simulate.plan import SimulatedPlan
from noria.benchmarks.simulate.run import Simulation, ideal_seconds
from noria.benchmarks.simulate.settings import Faults, Site
from noria.engine.terminal.figures import duration_text, size_text
from noria.manifests.count_text import count_text

TAIL_SHARE = 0.01
"""The tail is from all bytes but so many to the end."""
OWN_ROWS = ("leases", "splits", "seals", "quarantine")
"""Counts that are shown by themselves, or say nothing of what went wrong."""
PASSES_WIDTH = 110
CHECKS = (
    "no shard lost",
    "no unit sealed twice in a generation, and none that was not moved",
    "no result of a fenced attempt sealed, and every result that counts sealed",
    "no lease with a worker that is lost, leaving, full or silent beyond its expiry",
    "no unit leased twice",
    "no span leased more often than it may fail",
    "no write by a worker that its driver has not heard for too long, nor to what others were "
    "granted meanwhile (I17)",
    "no byte moved again that the faults do not explain",
    "nothing granted in a pause, and nothing over a cap in any ten seconds, by more than 5 %",
    "the run reaches its end",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationFindings:
    """How a simulation ended."""

    plan: SimulatedPlan
    site: Site
    faults: Faults
    seed: int
    run: Simulation
    real_seconds: float
    """That the simulation itself took."""
    passes: Sequence[SimulatedPass] = ()
    """Of a migration, whose first is `run`; none: it is one job."""
    plot: str | None = None

    @property
    def violation(self) -> str | None:
        """What went wrong first; None if every check held."""
        later = (each for each in self.passes if each.run is not None and each.run.violation)
        wrong = next(later, None)
        if self.run.violation is None and wrong is not None and wrong.run is not None:
            return f"in pass {wrong.number}: {wrong.run.violation}"
        return self.run.violation

    @property
    def exit_code(self) -> int:
        return 0 if self.violation is None else 1


def tail_seconds(run: Simulation) -> float:
    """From 99 % of the bytes to the end."""
    width, figures = run.cadence.bin_seconds, run.figures
    bins = max(len(figures.moved), len(figures.repeated))
    useful = (_at(figures.moved, n) - _at(figures.repeated, n) for n in range(bins))
    wanted = (1 - TAIL_SHARE) * figures.useful_bytes
    reached = next((n for n, size in enumerate(accumulate(useful)) if size >= wanted), bins)
    return max(0.0, run.seconds - (reached + 1) * width)


def _at(values: Sequence[float], place: int) -> float:
    return values[place] if place < len(values) else 0.0


def summary(found: SimulationFindings) -> dict[str, Any]:
    """The document of `--json`."""
    run, figures, plan = found.run, found.run.figures, found.plan
    return {
        "seed": found.seed,
        "digest": run.digest,
        "violation": found.violation,
        "checks": list(CHECKS),
        "job": {"shards": len(plan.shards), "objects": plan.objects, "bytes": plan.bytes},
        "site": asdict(found.site),
        "faults": asdict(found.faults),
        "cadence": asdict(run.cadence),
        "heartbeat_timeout_seconds": run.options.heartbeat_timeout_seconds,
        "seconds": round(run.seconds, 3),
        "ideal_seconds": round(ideal_seconds(plan.shards, found.site), 3),
        "bytes_per_second": round(figures.useful_bytes / max(run.seconds, 1e-9)),
        "rework_bytes": round(figures.repeated_bytes),
        "rework_share": figures.repeated_bytes / max(1, plan.bytes),
        "rework_bound_bytes": round(figures.excused_bytes),
        "idle_share": figures.idle_seconds / max(1e-9, figures.up_seconds),
        "file_seconds": round(figures.file_seconds, 3),
        "file_share": figures.file_seconds / max(1e-9, run.seconds),
        "transfers_most": figures.transfers_most,
        "tail_seconds": round(tail_seconds(run), 3),
        "leases": figures.counts.get("leases", 0),
        "splits": figures.counts.get("splits", 0),
        "quarantines": figures.counts.get("quarantine", 0),
        "counts": dict(sorted(figures.counts.items())),
        "events": run.events,
        "commands": run.commands,
        "real_seconds": round(found.real_seconds, 3),
        "events_per_second": round(run.events / max(found.real_seconds, 1e-9)),
        "passes": [each.as_json() for each in found.passes],
        "plot": found.plot,
        "exit_code": found.exit_code,
    }


def print_report(document: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    job, site = document["job"], document["site"]
    console.print(
        f"{size_text(job['bytes'])} in {count_text(job['objects'], 'object')}, "
        f"{count_text(job['shards'], 'shard')}; "
        f"{count_text(site['workers'], 'worker')}, {site['workers_per_node']} on a node"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name, text in _rows(document):
        table.add_row(name, text)
    console.print(table)
    if document["passes"]:
        console.print()
        _print_passes(document["passes"])
    if document["violation"] is None:
        console.print(f"\nheld at every event: {'; '.join(document['checks'])}")
    else:
        console.print(f"\nVIOLATION after {duration_text(document['seconds'])}: ", end="")
        console.print(document["violation"], markup=False)
    if document["plot"]:
        console.print(document["plot"], markup=False)


def _print_passes(passes: Sequence[dict[str, Any]]) -> None:
    """What each pass found and took, and what the last one took."""
    table = Table(box=None, pad_edge=False)
    heads = ("pass", "new", "changed", "bytes", "list, plan, prove", "move", "took", "behind")
    for name in heads:
        table.add_column(name, justify="right", no_wrap=True)
    for each in passes:
        lag = each["lag_seconds"]
        table.add_row(
            str(each["pass"]),
            f"{each['new']:,}",
            f"{each['changed']:,}",
            size_text(each["bytes"]),
            duration_text(each["before_seconds"] + each["after_seconds"]),
            duration_text(each["moving_seconds"]),
            duration_text(each["seconds"]),
            "" if lag is None else duration_text(lag),
        )
    console = Console(highlight=False)
    console.width = max(console.width, PASSES_WIDTH)
    console.print(table)
    last = passes[-1]
    console.print("behind: the target, at most, before a pass ends", style="dim")
    if last["frozen"]:
        console.print(f"under a freeze the last pass takes {duration_text(last['seconds'])}")


def _rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    ideal = duration_text(document["ideal_seconds"])
    rework = f"{size_text(document['rework_bytes'])}, {document['rework_share']:.3%}"
    faults = [
        f"{number:,} x {what}"
        for what, number in document["counts"].items()
        if number and what not in OWN_ROWS
    ]
    timeout = duration_text(document["heartbeat_timeout_seconds"])
    return [
        ("duration", f"{duration_text(document['seconds'])} (ideal {ideal})"),
        ("throughput", f"{size_text(document['bytes_per_second'])}/s"),
        (
            "moved again",
            f"{rework} (the faults explain {size_text(document['rework_bound_bytes'])})",
        ),
        ("idle workers", f"{document['idle_share']:.2%} of their time"),
        ("tail", f"{duration_text(document['tail_seconds'])} for the last 1 % of the bytes"),
        *_files_row(document),
        ("leases", f"{document['leases']:,}"),
        ("transfers", f"{document['transfers_most']:,} in flight at most"),
        ("splits", f"{document['splits']:,}"),
        ("quarantines", f"{document['quarantines']:,}"),
        ("what happened", ", ".join(faults)),
        (
            "time",
            f"reports every {duration_text(document['cadence']['report_seconds'])}, "
            f"a worker is lost after {timeout} of silence",
        ),
        (
            "simulator",
            f"{document['events']:,} events in {duration_text(document['real_seconds'])}, "
            f"{document['events_per_second']:,} a second",
        ),
        ("seed, digest", f"{document['seed']}, {document['digest']}"),
    ]


def _files_row(document: dict[str, Any]) -> list[tuple[str, str]]:
    if not document["site"]["metadata_seconds"]:
        return []
    waited = duration_text(document["file_seconds"])
    words = f"{document['file_share']:.2%} of the driver's time, {waited}"
    return [("job directory", f"{words}, at {1000 * document['site']['metadata_seconds']:g} ms")]
