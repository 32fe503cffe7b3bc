"""`noria doctor`: what each end of a job can do, what the job lacks, and what to do about it.

It asks by the same look and the same probe as a plan, and keeps the result for the next one. What
it writes to a target is noted in the job directory, or below the user's own cache if there is no
job: whatever kills it, the next plan or doctor for this target removes what it left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from noria.engine.canary_removal import ProbeNote, lone_probe_root, remove_of_killed_plan
from noria.engine.config.jobfile import EndConfig, InventoryConfig, JobConfig
from noria.engine.config.locations import provider_of
from noria.engine.config.stores import open_end
from noria.engine.findings import (
    RIGHTS,
    Finding,
    Mark,
    lacking,
    service_findings,
    source_findings,
    target_findings,
)
from noria.engine.first_look import TargetLook, checked_access, open_report
from noria.engine.planning import probe_token
from noria.manifests.count_text import count_text
from noria.manifests.errors import NoriaError
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.inspection import InspectedStore, source_rights, target_rights
from noria.workers.stores.probe import THOROUGH

LIVE_LISTING = InventoryConfig()


@dataclass(slots=True, kw_only=True)
class EndDiagnosis:
    """What was found at one end."""

    role: str
    url: str
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the findings were made from, for programs."""
    canaries_left: tuple[str, ...] = ()
    """Names of what the target refuses to delete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found at all ends that were looked at."""

    ends: tuple[EndDiagnosis, ...]
    seconds: float

    def count(self, mark: Mark) -> int:
        return sum(finding.mark is mark for end in self.ends for finding in end.findings)

    @property
    def exit_code(self) -> int:
        """As `noria plan` would end for what it would refuse."""
        return 2 if self.count(Mark.LACKS) else 0


def examine_job(config: JobConfig, root: Path) -> Diagnosis:
    """Look at both ends of a job at once. `root` is its directory, which need not be there."""
    began = time.monotonic()
    source = BackgroundCall(partial(_examine_source, config.source, config), "source")
    target = _examine_target(config.target, root)
    return Diagnosis(ends=(source.result(), target), seconds=time.monotonic() - began)


def examine_end(end: EndConfig, *, as_target: bool) -> Diagnosis:
    """Look at one end alone. Nothing is written to it, unless it is looked at as a target."""
    began = time.monotonic()
    found = _examine_target(end, lone_probe_root(end)) if as_target else _examine_source(end, None)
    return Diagnosis(ends=(found,), seconds=time.monotonic() - began)


def examine_ends(source: EndConfig, target: EndConfig) -> Diagnosis:
    """Look at two ends at once, of which no job knows."""
    began = time.monotonic()
    reading = BackgroundCall(partial(_examine_source, source, None), "source")
    found = _examine_target(target, lone_probe_root(target))
    return Diagnosis(ends=(reading.result(), found), seconds=time.monotonic() - began)


# -- one end ---------------------------------------------------------------------------------------


def _examine_source(end: EndConfig, config: JobConfig | None) -> EndDiagnosis:
    found = EndDiagnosis(role="source", url=str(end.location))
    inventory = LIVE_LISTING if config is None else config.inventory
    location = end.location
    with _reached(found, "reach"):
        store = open_end(end, read_only=True)
        names_object = bool(location.path) and not location.path.endswith("/")
        head = BackgroundCall(partial(store.head, location.path)) if names_object else None
        access = checked_access(store, "source", end, head, lists=inventory.kind != "keys")
        _describe_service(found, store, location.prefix)
        access.result()
        is_object = head is not None and _result_or_none(head) is not None
        protection = BackgroundCall(store.protection)
        key = location.path if is_object else None
        rights = source_rights(store, location.path if is_object else location.prefix, key)
        found.facts |= {"rights": asdict(rights), "protection": asdict(protection.result())}
        found.findings += source_findings(
            rights,
            protection.result(),
            provider=provider_of(end),
            must_list=not is_object and inventory.kind == "listing",
        )
    if config is not None and inventory.kind != "listing":
        with _reached(found, "inventory"):
            report = open_report(config)
            begun = "" if report.created is None else f", begun at {report.created:%Y-%m-%d %H:%M}"
            says = f"the {inventory.kind} report can be read{begun}"
            found.findings.append(Finding(topic="inventory", mark=Mark.OK, says=says))
    return found


def _examine_target(end: EndConfig, root: Path | None) -> EndDiagnosis:
    found = EndDiagnosis(role="target", url=str(end.location))
    with _reached(found, "reach"):
        remove_of_killed_plan(root, silently=True)
        with TargetLook(end, probe_token(root or Path("/"), end), THOROUGH) as look:
            _describe_service(found, look.store, end.location.prefix)
            look.check()
            rights = BackgroundCall(partial(target_rights, look.store, end.location.prefix))
            with _reached(found, "write"):
                look.begin_probe(_note_in(root))
                facts = look.facts()
                provider = provider_of(end)
                if provider == "s3" and facts.provider is not None:
                    provider = facts.provider
                found.facts |= {
                    "provider": provider,
                    "probe": asdict(facts),
                    "rights": asdict(rights.result()),
                    "protection": asdict(look.protection()),
                }
                found.findings += target_findings(
                    facts, rights.result(), look.protection(), provider=provider
                )
            _describe_removal(found, look)
    return found


@contextmanager
def _reached(found: EndDiagnosis, topic: str) -> Iterator[None]:
    """What ends the block is a finding, and the other end is looked at all the same."""
    try:
        yield
    except NoriaError as error:
        found.findings.append(lacking(topic, error.message))


def _describe_service(found: EndDiagnosis, store: InspectedStore, prefix: str) -> None:
    """Say what the service is; whoever may not list is told so elsewhere."""
    try:
        service = store.service(prefix)
    except NoriaError:
        return
    found.facts["service"] = asdict(service)
    found.findings += service_findings(service, time.time())


def _describe_removal(found: EndDiagnosis, look: TargetLook) -> None:
    left = look.removal.finish(silently=True)
    found.canaries_left = look.removal.left_names
    if left and not found.canaries_left:
        found.findings.append(
            lacking(
                "delete",
                "whether the probe's canaries are gone is not known: the target does not list them",
                "run this again once it does; it then removes what is left",
            )
        )
    elif left:
        found.findings.append(
            lacking(
                "delete",
                f"{count_text(left, 'canary')} of the probe cannot be deleted: "
                f"{', '.join(found.canaries_left)}",
                f"delete them, and allow these credentials to; {RIGHTS}",
            )
        )
    else:
        says = "all canaries were deleted again"
        found.findings.append(Finding(topic="delete", mark=Mark.OK, says=says))


def _note_in(root: Path | None) -> ProbeNote | None:
    """Where a probe is noted; None if there is no place: the next doctor knows its token."""
    if root is None:
        return None
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return ProbeNote(root)


def _result_or_none(head: BackgroundCall[Any]) -> Any:
    try:
        return head.result()
    except NoriaError:
        return None
