"""Reports of every command: the JSON document for programs, and how people see it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.engine.clean import Cleaning
from noria.engine.deadline import DeadlineState
from noria.engine.failures import Failure
from noria.engine.job import RunReport
from noria.engine.job_state import job_state
from noria.engine.planning import Prepared
from noria.engine.status import JobStatus, Phase
from noria.engine.terminal.figures import (
    duration_text,
    guard_text,
    held_text,
    size_text,
    time_text,
)
from noria.engine.terminal.verification_text import sample_text
from noria.engine.verifying import VerifyReport
from noria.manifests.count_text import count_text
from noria.manifests.errors import passing_causes
from noria.manifests.passes.migration import migration_of

if TYPE_CHECKING:
    from noria.engine.attribute_look import AttributeLook

REASONS = {
    "folder_stub": "stubs and markers of folders, and empty folders: no bytes to move",
    "not_current": "old versions, snapshots, deleted objects",
    "archived": "in an archive tier: rehydrate them at the source, then plan again",
    "customer_key": "encrypted with a key that the customer provides: Noria has no such key",
    "too_large": "larger than the target can hold",
    "metadata_too_large": "more user metadata than the target takes",
    "name_too_long": "a name longer than the target takes",
    "name_merged": "the target would store it under another name (plan.names = escape maps it)",
    "name_refused": "the target refuses the name (plan.names = escape maps it)",
    "name_not_utf8": "a file name that is not UTF-8: rename it (convmv does that), then plan again",
    "link": 'symbolic links: they are not followed (source.links = "follow" does)',
    "special_file": "sockets, pipes and devices: nothing to move",
}
CHANGES = {
    "metadata_left": "without metadata that the target cannot hold",
    "metadata_mapped": "with metadata in another form",
    "metadata_lowered": "with names of metadata in lower case, as S3 writes all",
    "header_left": "without a header that the target cannot hold",
    "header_mapped": "with a file name in the form of RFC 8187",
    "tags_left": "without tags that the target cannot hold",
    "tags_refused": "without tags, which the target refused",
    "tags_unreadable": "without tags, if there were any: the source does not let us read them",
    "expires_left": "without Expires, which the target does not have",
    "redirect_left": "without a website redirect, which the target does not have",
    "class_left": "in the target's own storage class or tier (target.storage_class sets one)",
    "blob_type_left": "page and append blobs: as block blobs, or as objects",
    "retention_left": "without retention or legal hold (target.retention carries them)",
    "encryption_left": "encrypted as the target does by itself (target.encryption sets another)",
}
DAMAGE = {
    "damaged": "at the target with other bytes than were sent",
    "target_missing": "gone from the target",
    "target_changed": "at the target changed or replaced since",
}
PASSED_OVER = {
    "outside_prefix": "outside the source's prefix",
    "other_container": "in another container",
    "duplicate": "named twice",
    "superseded": "older rows of the same name",
    "not_current": "old versions and snapshots of objects that are here",
    "filtered_name": "left out by name",
    "filtered_size": "left out by size",
    "filtered_age": "left out by age",
    "filtered_tier": "left out by tier",
    "filtered_type": "left out by content type",
    "filtered_tag": "left out by tag",
}


def plan_summary(prepared: Prepared, look: AttributeLook) -> dict[str, Any]:
    manifest, facts = prepared.manifest, prepared.facts
    return {
        "job": facts.job_id,
        "directory": str(prepared.directory.root),
        "digest": manifest.digest,
        "objects": manifest.objects,
        "bytes": manifest.bytes,
        "objects_to_move": manifest.objects_to_move,
        "bytes_to_move": manifest.bytes_to_move,
        "left_out": {
            reason: counts["objects"] for reason, counts in manifest.facts["reasons"].items()
        },
        "passed_over": manifest.passed_over,
        "attributes": asdict(look),
        "inventory": manifest.facts["inventory"],
        "shards": manifest.facts["shards"]["count"],
        "target": {
            "provider": facts.provider,
            "checksum": facts.checksum.value,
            "if_absent": facts.if_absent,
            "atomic_complete": facts.atomic_complete,
            "was_empty": facts.target_was_empty,
            "canaries_left": prepared.removal.finish(),
        },
    }


def print_plan(summary: Mapping[str, Any]) -> None:
    print(
        f"{summary['objects_to_move']:,} of {count_text(summary['objects'], 'object')}, "
        f"{size_text(summary['bytes_to_move'])}, will move in "
        f"{count_text(summary['shards'], 'shard')}"
    )
    target = summary["target"]
    print(
        f"target: {target['provider']}; verifies {target['checksum']} at ingest; "
        + _condition(target)
        + ("" if target["was_empty"] else "; was not empty, so each object is looked for first")
    )
    print_left_out(summary["left_out"])
    print_passed_over(summary["passed_over"])
    print_attributes(summary["attributes"], summary["objects_to_move"])
    print(f"manifest digest {summary['digest']}")
    print(f"run it: noria run {summary['directory']}")


def print_left_out(left_out: Mapping[str, int], sizes: Mapping[str, int] | None = None) -> None:
    """Say which entries do not move, by reason; with their bytes, if those are given."""
    rows = [
        (
            f"{count:,}",
            *(() if sizes is None else (size_text(sizes[reason]),)),
            REASONS.get(reason, reason),
        )
        for reason, count in left_out.items()
    ]
    if rows:
        columns = ("objects",) if sizes is None else ("objects", "size")
        _print_table(rows, *columns, "left out because")


def print_attributes(look: Mapping[str, Any], objects: int) -> None:
    """Say what becomes of attributes, if anything does."""
    if not look["changes"]:
        return
    refused = look["refused"]
    print(
        f"of {count_text(look['looked_at'], 'object')} looked at, of {objects:,} in all, "
        + (f"{refused:,} would be refused ([run] unfit_... says so); " if refused else "")
        + "ATTRIBUTES.md has what can be done about:"
    )
    for change, count in look["changes"].items():
        print(f"  {count:,} {CHANGES.get(change, change)} ({change})")


def _condition(target: Mapping[str, Any]) -> str:
    """What the target's If-None-Match is worth, in words."""
    if not target["if_absent"]:
        return "cannot write only if absent"
    if target["atomic_complete"]:
        return "writes only if absent"
    return (
        "writes only if absent, but for uploads that are completed at the same moment, so each "
        "is looked for first"
    )


def run_summary(ended: RunReport, root: Path) -> dict[str, Any]:
    return {**asdict(ended), "directory": str(root), "exit_code": ended.exit_code}


def print_run(summary: Mapping[str, Any], again: str = "noria run") -> None:
    """Print how a run ended. `again` is the command that goes on with it, given its directory."""
    if summary["finished_before"] is not None:
        print(
            f"nothing was left to do: the job had finished{_at(summary['finished_before'])}. "
            f"`noria sync {summary['directory']}` moves what is new or changed at the source since"
        )
    outcomes = ", ".join(f"{count:,} {name}" for name, count in summary["outcomes"].items())
    if outcomes:
        took = duration_text(summary["seconds"])
        print(f"{outcomes}: {size_text(summary['bytes'])} in {took}")
    else:
        print("nothing had to be moved" if summary["complete"] else "nothing was moved")
    _print_sent(summary)
    if summary["levels"]:
        levels = ", ".join(f"{count:,} {name}" for name, count in summary["levels"].items())
        print(f"verified: {levels}")
    _print_causes(summary["causes"])
    _print_changes(summary["changes"])
    print_passed_over(summary["passed_over"])
    _print_failures(summary["failures"], summary["failed"])
    passing = sum(count for cause, count in summary["causes"].items() if cause in passing_causes())
    if passing and summary["complete"]:
        print(f"{passing:,} of these may pass: {again} {summary['directory']} tries them again")
    if not summary["complete"]:
        print(f"stopped before the end: {summary['stopped'] or 'see log'}")
        print(f"resume it: {again} {summary['directory']}")
    elif summary["reconciled"]:
        extra = summary["differences"].get("extra", 0)
        others = f"{extra:,} of others, expected" if extra else "nothing extra"
        print(f"reconciled: nothing missing, {others}, nothing merged")
    else:
        found = ", ".join(f"{count:,} {name}" for name, count in summary["differences"].items())
        place = summary.get("place", "the job directory")
        print(f"NOT reconciled: {found}; see reconcile-differences.parquet in {place}")
    _print_damage(summary["damaged"], summary["directory"])
    _print_open_uploads(summary)
    _print_proof(summary)
    print(f"job directory: {summary['directory']}")
    print(f"ran on {summary['interpreter']}")


def _print_proof(summary: Mapping[str, Any]) -> None:
    proof = summary["proof"]
    if proof is None:
        return
    if "error" in proof:
        print(f"NOT signed: {proof['error']}")
        print(f"when that is mended: noria sign {summary['directory']} --signing-key FILE")
        return
    stamp = proof.get("timestamp", {})
    stamped = f", time stamp of {time_text(stamp['seconds'])} UTC" if "seconds" in stamp else ""
    print(f"signed: checkpoint {proof['checkpoint']}, root {proof['root']}{stamped}")
    if "error" in stamp:
        print(f"NOT time-stamped: {stamp['error']}")
        print(f"ask again: noria sign {summary['directory']} --timestamp-url URL")


def _print_sent(summary: Mapping[str, Any]) -> None:
    """Say what was sent, if that is not simply what landed."""
    at_least = summary["bytes_moved_at_least"]
    if at_least or summary["bytes_moved"] > summary["bytes"]:
        print(
            f"sent: {'at least ' if at_least else ''}{size_text(summary['bytes_moved'])}, what was "
            "sent again included"
        )


def _print_open_uploads(summary: Mapping[str, Any]) -> None:
    unclaimed = summary["unclaimed_uploads"]
    refused = (summary["open_uploads"] or 0) - unclaimed
    if refused:
        print(
            f"{count_text(refused, 'multipart upload')} could not be aborted: noria clean "
            f"{summary['directory']}",
        )
    if unclaimed:
        print(
            f"{count_text(unclaimed, 'multipart upload')} open on names of this job, younger than "
            "it, and not in its journals: its own most likely, unless something else writes these "
            "names; "
            f"noria clean {summary['directory']} --unclaimed aborts them"
        )


def status_summary(status: JobStatus, failures: list[Failure], root: Path) -> dict[str, Any]:
    values = {**asdict(status), "directory": str(root)}
    del values["metrics"], values["handed_back"]
    values["failed"] = status.failed
    values["silent_seconds"] = status.silent_seconds
    values["held_at"] = status.held_at
    values["paused"] = status.paused
    state = job_state(status)
    values["state"] = {**asdict(state), "line": state.line}
    values["held_by_guards"] = {
        store: asdict(state) for store, state in status.held_by_guards.items()
    }
    values["barred"] = status.barred
    values["deadline"] = None if status.deadline is None else asdict(status.deadline)
    values["failures"] = [asdict(failure) for failure in failures]
    return values


def print_status(summary: Mapping[str, Any]) -> None:
    total = summary["bytes_total"]
    share = 100 * summary["bytes_done"] / total if total else 100.0
    ended = "" if summary["phase"].has_driver else _at(summary["updated_seconds"])
    print(f"job {summary['job']}: {summary['state']['line']}{ended}")
    if summary["stopped"]:
        print(f"{summary['stopped']}; `noria run` goes on with it")
    if summary["phase"] == Phase.PLANNING and summary["listed"]:
        rate = summary["listed_per_second"]
        print(f"{summary['listed']:,} listed at the source so far, {rate:,.0f} a second")
    if summary["phase"] == Phase.PLANNING or (summary["stopped"] and not summary["objects_total"]):
        return
    print(
        f"{summary['objects_done']:,} of {count_text(summary['objects_total'], 'object')}, "
        f"{size_text(summary['bytes_done'])} of {size_text(total)} ({share:.1f} %)"
    )
    _print_pace(summary)
    if summary["interpreter"]:
        print(f"on {summary['interpreter']}")
    _print_causes(summary["causes"])
    _print_changes(summary["changes"])
    print_passed_over(summary["passed_over"])
    _print_failures(summary["failures"], summary["failed"])
    if summary["differences"]:
        found = ", ".join(f"{count:,} {name}" for name, count in summary["differences"].items())
        place = summary.get("place", "the job directory")
        print(f"NOT reconciled: {found}; see reconcile-differences.parquet in {place}")
    _print_damage(summary["damaged"], summary["directory"])


def _print_pace(summary: Mapping[str, Any]) -> None:
    """How fast it goes, and what it waits for or is held by."""
    if summary["phase"] is Phase.RECONCILING and summary["listed"]:
        rate = summary["listed_per_second"]
        print(f"{summary['listed']:,} listed at the target so far, {rate:,.0f} a second")
    for store, seconds in summary["silent_seconds"].items():
        print(f"the {store} has not answered for {duration_text(seconds)}: workers wait for it")
    for host, reason in summary["barred"].items():
        rests = "rests" if summary["phase"].has_driver else "rested at the end"
        print(f"host {host} {rests}: {reason}")
    if summary["workers"]:
        eta = summary["eta_seconds"]
        print(
            f"{size_text(summary['bytes_per_second'])}/s, "
            f"{summary['objects_per_second']:,.0f} objects/s, "
            f"{count_text(summary['workers'], 'worker')}, "
            f"ETA {'unknown' if eta is None else duration_text(eta)}"
        )
    for store, state in summary["held_by_guards"].items():
        print(f"{guard_text(store, state['factor'])} of the pace: {state['said']}")
    if summary["held_at"] is not None:
        print(held_text(summary["held_at"]))
    if summary["deadline"] is not None:
        _print_deadline(summary["deadline"])


def print_status_by_host(summary: Mapping[str, Any]) -> None:
    """The status, then each host on a line, and below the causes of its errors."""
    print_status(summary)
    hosts = {name: summary["hosts"][name] for name in sorted(summary["hosts"], key=_in_order)}
    if not hosts:
        print("no host is known: no worker has come up yet")
        return
    rows = [("workers", "lost", "rate", "objects", "errors", "retries", "host")]
    rows += [
        (
            f"{host['workers']:,}",
            f"{host['workers_lost']:,}",
            f"{size_text(host['bytes_per_second'])}/s",
            f"{host['objects']:,}",
            f"{sum(host['errors'].values()):,}",
            f"{sum(host['retries'].values()):,}",
            name + ("" if host["barred"] is None else " (barred)"),
        )
        for name, host in hosts.items()
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for *figures, name in rows:
        # Names come last and whole: those of pods are long, and differ in their last letters.
        cells = (cell.rjust(width) for cell, width in zip(figures, widths, strict=False))
        print("  ".join([*cells, name]))
    for name, host in hosts.items():
        if host["errors"]:
            causes = sorted(host["errors"].items(), key=lambda pair: (-pair[1], pair[0]))
            print(
                f"errors of {name}: " + ", ".join(f"{count:,} {cause}" for cause, count in causes)
            )


def _in_order(name: str) -> tuple[tuple[str, int], ...]:
    """For sorting: node-2 comes before node-10."""
    return tuple((text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d{0,18})", name))


def _print_damage(damaged: Mapping[str, int], directory: str) -> None:
    for cause, count in damaged.items():
        print(f"DAMAGED: {count_text(count, 'object')} {DAMAGE.get(cause, '')} ({cause})")
    if damaged:
        print(
            f"found by `noria verify`; {_mending(damaged, directory, _mended_by(Path(directory)))}"
        )


def _mending(causes: Mapping[str, int], directory: str, command: str = "retry") -> str:
    """The next step. What was changed or replaced at the target is not overwritten."""
    if causes.keys() & {"damaged", "target_missing"}:
        return f"send them again: noria {command} {directory}"
    return f"if the source is right, delete them at the target, then: noria {command} {directory}"


def _print_deadline(deadline: Mapping[str, Any]) -> None:
    """Say how far ahead of it the job is."""
    spare = deadline["spare_seconds"]
    words = {
        DeadlineState.MET: "met",
        DeadlineState.MISSED: "missed",
        DeadlineState.UNKNOWN: "nothing moves, so nothing can be said yet",
    }.get(deadline["state"])
    if words is None:
        left = duration_text(abs(spare))
        words = f"{left} to spare at this rate" if spare >= 0 else f"{left} LATE at this rate"
    print(f"deadline{_at(deadline['deadline_seconds'])}: {words}")


def _at(unix_seconds: float) -> str:
    with suppress(ValueError, OverflowError, OSError):  # no time that a calendar has
        return f" at {datetime.fromtimestamp(unix_seconds, UTC):%F %T} UTC"
    return ""


def verify_summary(found: VerifyReport, root: Path) -> dict[str, Any]:
    """`mended_by` is the command that sends again what is damaged."""
    return {
        **asdict(found),
        "directory": str(root),
        "exit_code": found.exit_code,
        "mended_by": _mended_by(root),
    }


def _mended_by(root: Path) -> str:
    """The command that sends again what is damaged, of whichever pass."""
    migration, number = migration_of(root)
    return "sync" if number == 1 and migration.last > 1 else "retry"


def print_verify(summary: Mapping[str, Any]) -> None:
    if (sample := summary["sample"]) is not None and summary["complete"]:
        print(sample_text(sample))
    print(
        f"{count_text(summary['reread'], 'object')}, {size_text(summary['bytes'])}, read back and "
        f"equal to their receipts in {duration_text(summary['seconds'])}"
    )
    if summary["unsettled"]:
        print(
            f"{count_text(summary['unsettled'], 'entry')} without a receipt yet: run the job first"
        )
    if summary["gone_at_both"]:
        print(f"{count_text(summary['gone_at_both'], 'object')} gone at both ends")
    if summary["unread"]:
        print(
            f"NOT READ: {count_text(summary['unread'], 'object')} of which no receipt says what "
            "their bytes are"
        )
    if summary["damaged"]:
        mending = _mending(summary["causes"], summary["directory"], summary["mended_by"])
        print(f"DAMAGED: {summary['damaged']:,}; {mending}")
    _print_causes(summary["causes"])
    _print_failures(summary["failures"], summary["damaged"])
    if not summary["complete"]:
        print(f"stopped before the end: {summary['stopped'] or 'see log'}")
    _print_proof(summary)
    print(f"ran on {summary['interpreter']}")


def print_reconciliation(summary: Mapping[str, Any]) -> None:
    _print_table(
        (name, str(value) if isinstance(value, bool) else f"{value:,}")
        for name, value in summary.items()
    )


def clean_summary(found: Cleaning) -> dict[str, Any]:
    return {**asdict(found), "exit_code": found.exit_code}


def print_clean(summary: Mapping[str, Any]) -> None:
    print(f"{count_text(summary['aborted'], 'open multipart upload')} of this job aborted")
    if drafts := summary["drafts"]:
        print(f"{count_text(drafts, 'unfinished file')} of killed runs removed from the target")
    if summary["failed"]:
        print(f"{summary['failed']:,} could not be aborted: see that the credentials may")
    if summary["unclaimed"]:
        print(
            f"{summary['unclaimed']:,} on names of this job, younger than it, and not in its "
            "journals: its own most likely; abort them too with --unclaimed"
        )
    if summary["foreign"]:
        print(f"{summary['foreign']:,} of others, left alone")


def _print_causes(causes: Mapping[str, int]) -> None:
    for cause, count in causes.items():
        print(f"  {count:,} {cause}: {REASONS.get(cause, 'see failures.parquet')}")


def _print_changes(changes: Mapping[str, int]) -> None:
    for change, count in changes.items():
        print(f"  {count:,} landed {CHANGES.get(change, change)} ({change})")


def print_passed_over(passed_over: Mapping[str, int]) -> None:
    """Say which entries of the inventory are no part of the job, if there are any."""
    if passed_over:
        found = ", ".join(f"{count:,} {PASSED_OVER[cause]}" for cause, count in passed_over.items())
        print(f"passed over, not part of the job: {found}")


def _print_failures(failures: list[Mapping[str, Any]], total: int) -> None:
    if not failures:
        return
    shown = ("name", "outcome", "cause", "message")
    rows = [[failure[field] for field in shown] for failure in failures]
    _print_table(rows, "object", "outcome", "cause", "what to do")
    if total > len(failures):
        print(f"... {total - len(failures):,} more in failures.parquet")


def _print_table(rows: Iterable[Sequence[str]], *columns: str) -> None:
    """Print a row on each line. On a terminal it is folded into columns, elsewhere never."""
    if not sys.stdout.isatty():
        lines = [columns, *rows] if columns else list(rows)
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())
        return
    # Most reports need no table, and rich takes 40 ms to load.
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, show_header=bool(columns))
    for row in rows:
        table.add_row(*row)
    # Text is printed as it is: brackets in a name are not markup.
    Console(markup=False, emoji=False).print(table)
