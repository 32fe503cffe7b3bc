"""What a dry run found, and an estimate of it: one JSON document, or lines for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from noria.engine.dry_run import DryRun, dry_run
from noria.engine.terminal.console import ending_on_signals, print_summary
from noria.engine.terminal.figures import size_text
from noria.engine.terminal.report import (
    print_attributes,
    print_left_out,
    print_passed_over,
)
from noria.manifests.count_text import count_text

if TYPE_CHECKING:
    from noria.engine.config.jobfile import JobConfig


def say_what_would_move(
    config: JobConfig, root: Path, as_json: bool, say: Callable[[str], None]
) -> NoReturn:
    """Dry run, and exit: with code 0 whatever is left out, as a plan and rclone do."""
    with ending_on_signals(), dry_run(config, root, say) as found:
        summary = dry_run_summary(found, root)
    print_summary(summary, print_dry_run, as_json)
    raise typer.Exit(0)


def dry_run_summary(found: DryRun, root: Path) -> dict[str, Any]:
    manifest, facts = found.manifest, found.facts
    return {
        "dry_run": True,
        "directory": str(root),
        "job_exists": found.job_exists,
        "digest": manifest.digest,
        "objects": manifest.objects,
        "bytes": manifest.bytes,
        "objects_to_move": manifest.objects_to_move,
        "bytes_to_move": manifest.bytes_to_move,
        "sizes": manifest.sizes,
        "left_out": {
            reason: counts["objects"] for reason, counts in manifest.facts["reasons"].items()
        },
        "left_out_bytes": {
            reason: counts["bytes"] for reason, counts in manifest.facts["reasons"].items()
        },
        "passed_over": manifest.passed_over,
        "kinds": dict(found.kinds),
        "attributes": asdict(found.attributes),
        "inventory": manifest.facts["inventory"],
        "shards": manifest.facts["shards"]["count"],
        "part_bytes": manifest.options.part_bytes,
        "target": {
            "provider": facts.provider,
            "was_empty": found.sight.was_empty,
            "would_be_made": found.sight.would_be_made,
            "trouble": found.sight.trouble,
            "probed": found.sight.probed,
        },
        "not_tried": list(found.not_tried),
    }


def print_dry_run(summary: Mapping[str, Any]) -> None:
    print(
        f"dry run: {summary['objects_to_move']:,} of {count_text(summary['objects'], 'object')}, "
        f"{size_text(summary['bytes_to_move'])}, would move in "
        f"{count_text(summary['shards'], 'shard')}"
    )
    _print_target(summary["target"])
    kinds = {kind: n for kind, n in summary["kinds"].items() if kind != "BlockBlob"}
    for kind, count in kinds.items():
        print(f"  {count:,} of the kind {kind}: the bytes move, the kind does not")
    print_left_out(summary["left_out"], summary["left_out_bytes"])
    print_passed_over(summary["passed_over"])
    look = summary["attributes"]
    print_attributes(look, summary["objects_to_move"])
    if summary["objects_to_move"] and not look["looked_at"]:
        print("attributes: no object could be asked for; reading objects takes a right of its own")
    for what in summary["not_tried"]:
        print(f"not tried in a dry run: {what}")
    if summary["job_exists"]:
        print(
            f"{summary['directory']} holds a job already: the same command goes on with it, by "
            "its own plan"
        )
    print("nothing was written")


def _print_target(target: Mapping[str, Any]) -> None:
    if target["trouble"] is not None:
        print(f"target: {target['trouble']}; a job would be refused")
        return
    empty = "empty" if target["was_empty"] else "not empty, so each object is looked for first"
    if target["would_be_made"]:
        empty = "missing: it would be made"
    known = "as probed within the hour" if target["probed"] else "not probed"
    print(f"target: {target['provider']}, {known}; {empty}")
