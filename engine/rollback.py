"""The way back of a migration that was switched: what changed at the target goes to the source.

It is a migration of its own, whose source is the target, and which begins with what stood at the
cutover. An object at the source is replaced only if it is as it was when it was read there. What
[run] says of conflicts is of the target, and does not count here.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from noria.engine.command_outputs import switch_was_begun
from noria.engine.config.jobfile import JobConfig
from noria.engine.config.locations import provider_of
from noria.engine.config.reading import job_config
from noria.engine.cutover_lock import one_at_a_time
from noria.engine.job import RunReport
from noria.engine.pass_records import has_ended
from noria.engine.passes import DeltaCounts, PassReport, PassWishes
from noria.engine.planning import PassFacts, Prepared, job_parts, prepared_pass
from noria.engine.status import load_status
from noria.engine.trusted_ends import planned_endpoints, trust_ends
from noria.manifests.access import make_folders
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.cutover_states import MigrationState, require, standing
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Facts, Record, RecordKind, Sign, append, read
from noria.manifests.model import ConflictPolicy
from noria.manifests.passes.migration import Migration, WayBack
from noria.manifests.passes.reversal import REVERSE_BASE, write_reversed
from noria.manifests.passes.state import open_state
from noria.manifests.plan.providers import known_name_rules

Say = Callable[[str], None]

_OF_BOTH_ENDS: Final = (
    *("url", "endpoint", "region", "provider", "profile", "ca_bundle", "allow_plain_http"),
    *("path_style", "request_payer"),
)
"""Settings of an end that it keeps when it becomes the other one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackReport:
    """How a roll-back ended."""

    back: PassReport | None
    """What was moved to the source; None: the target was not in use, so there was nothing."""
    ended: bool
    """Users may use the source again."""

    @property
    def exit_code(self) -> int:
        if self.ended:
            return 0
        return 1 if self.back is None else self.back.run.exit_code or 1


def rollback(
    migration: Migration,
    wishes: PassWishes,
    run: Callable[[Prepared], RunReport],
    say: Say,
) -> RollbackReport:
    """Move back to the source what changed at the target since the switch, and record it.

    May be repeated until it has ended. `run` runs what was planned. Raises ConfigurationError if
    the migration stands where there is no way back, and what planning a pass raises.
    """
    directory = JobDirectory.open(migration.root)
    with one_at_a_time(directory):
        return _rolled_back(migration, directory, wishes, run, say)


def _rolled_back(
    migration: Migration,
    directory: JobDirectory,
    wishes: PassWishes,
    run: Callable[[Prepared], RunReport],
    say: Say,
) -> RollbackReport:
    sign = wishes.sign
    records = read(directory)
    require(records, RecordKind.ROLLED_BACK)
    switched = standing(records).state in (MigrationState.SWITCHED, MigrationState.GRACE)
    # One that was killed, or has failed, may have made users use the target all the same.
    if not switched and not switch_was_begun(directory, records):
        _note(directory, {"moved_objects": 0, "switched": False}, sign)
        return RollbackReport(back=None, ended=True)
    if not has_ended(migration, migration.last):
        raise ConfigurationError(
            f"pass {migration.last} has not ended: `noria run {migration.root}` brings it to its "
            "end first"
        )
    *ended, back = migration.ways_back()
    noted = {each.facts.get("way_back") for each in records}
    if ended and ended[-1].root.name not in noted:  # what did so was killed right before
        _complete(migration, ended[-1], sign)
        return RollbackReport(back=None, ended=True)
    config = _turned(job_parts(directory)[0])
    if not back.exists:
        _begin(migration, back, config)
    last = back.migration.last
    facts = PassFacts(
        number=last if last > REVERSE_BASE and not has_ended(back.migration, last) else last + 1,
        mirror=config.sync.deletions == "mirror" if wishes.mirror is None else wishes.mirror,
        deletions_max=None if wishes.any_number else config.sync.deletions_max,
    )
    if not job_parts(directory)[1].target_was_empty:
        say(
            "the target was not empty before the first pass: what others have there is new to the "
            "source, and goes there as well"
        )
    say("the target is listed, and compared with what stood there at the cutover")
    with prepared_pass(back.root, config, facts, say, overrides=wishes.overrides) as ready:
        moved = run(ready)
    report = PassReport(
        number=facts.number,
        place=back.migration.place(facts.number),
        run=moved,
        delta=DeltaCounts.of(ready.manifest),
    )
    if moved.exit_code:
        return RollbackReport(back=report, ended=False)
    migration.forget(migration.last)  # or it would be read as it was, if this ends here
    back.note_end()
    _complete(migration, back, sign)
    return RollbackReport(back=report, ended=True)


def _complete(migration: Migration, back: WayBack, sign: Sign | None) -> None:
    """Have what stands be what the way back has left, and record it. May be repeated."""
    migration.forget(migration.last)
    moved, passes = Counter[str](), range(REVERSE_BASE + 1, back.migration.last + 1)
    for number in passes:
        status = load_status(JobDirectory(back.migration.place(number)))
        moved.update({} if status is None else status.outcomes)
    facts: Facts = {
        "switched": True,
        "way_back": back.root.name,
        "moved_objects": moved["TRANSFERRED"],
        "deleted_objects": moved["DELETED"],
    }
    _note(JobDirectory(migration.root), facts, sign)


def _note(directory: JobDirectory, facts: Facts, sign: Sign | None) -> Record:
    def check(records: Sequence[Record]) -> None:
        require(records, RecordKind.ROLLED_BACK)

    return append(directory, RecordKind.ROLLED_BACK, facts, check=check, sign=sign)


def _begin(migration: Migration, back: WayBack, config: JobConfig) -> None:
    """Make the directory of the way back: the state that it begins with, then its job.json."""
    _, facts = job_parts(JobDirectory.open(migration.root))
    if facts.single_object:
        raise ConfigurationError("a migration of one object has no way back: copy it back by hand")
    place = back.migration.state_place(REVERSE_BASE)
    make_folders(place.parent)
    if open_state(place) is None:
        write_reversed(migration.state(migration.last), place)
    job_id = secrets.token_hex(6)
    turned = {
        **asdict(facts),
        "job_id": job_id,
        "source_prefix": facts.target_prefix,
        "target_prefix": facts.source_prefix,
        "provider": provider_of(config.target),
        "target_was_empty": False,  # it may hold what no pass moved
    }
    job: dict[str, Any] = {
        "id": job_id,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "config": config.model_dump(mode="json"),
        "facts": turned,
        "name_rules": asdict(known_name_rules(provider_of(config.target))),
        "endpoints": planned_endpoints(config),
        "reverses": migration.last,
    }
    JobDirectory.create(back.root, job)
    trust_ends(job_id, config)


def _turned(config: JobConfig) -> JobConfig:
    """The job with its ends exchanged, over all that lies at the target now."""
    given = config.model_dump(mode="json")
    ends: dict[str, Mapping[str, Any]] = {"source": given["target"], "target": given["source"]}
    turned = {
        role: {name: value for name, value in end.items() if name in _OF_BOTH_ENDS}
        for role, end in ends.items()
    }
    kept = {name: given[name] for name in ("plan", "run", "sync")}
    kept["run"] |= {"conflicts": ConflictPolicy.REFUSE.value, "replace_foreign": False}
    return job_config({**turned, **kept}, "noria rollback")
