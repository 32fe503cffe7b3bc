"""`noria verify`: what stands is read back, all or a sample, and compared with the receipts.

All passes of a migration are read by one crew of workers, after one walk through what stands: the
walk tells which receipts of which pass still count (manifests/passes/standing_receipts.py), and a
lease is of a shard of any of them (manifests/job/read_backs.py). Damage is noted in the pass that
the object belongs to. What a way back moved is read by the receipts that it has there.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.engine.cluster.opening import open_cluster
from noria.engine.cluster.protocol import Cluster
from noria.engine.config.jobfile import RunConfig
from noria.engine.failures import LISTED_FAILURES, Failure, listed_failures, write_failures
from noria.engine.interpreter import describe_interpreter
from noria.engine.job import CrewWork, Show, drive_work, moved_status, run_config_of
from noria.engine.listing_guards import refuse_foreign_commands
from noria.engine.pass_records import has_ended
from noria.engine.planning import Prepared, job_parts, open_trusted
from noria.engine.repair import known_damage, note_damage
from noria.engine.sampling import (
    SampleDraw,
    SampleFinding,
    SampleWishes,
    drawn_sample,
    note_drawn,
    sample_finding,
)
from noria.engine.scratch import scratch_folder
from noria.engine.status import JobStatus, at_rest, load_status, save_status
from noria.engine.totals import Totals
from noria.engine.verification_records import note_verified
from noria.engine.worker_spec import Mode
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.damage import GONE
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.fence import Fence
from noria.manifests.job.history import PASS, Facts, Sign
from noria.manifests.job.read_backs import JobReadBack, write_read_backs
from noria.manifests.job.seals import Seal, read_seals
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.model import Level, Outcome, ShardKind, ShardPlan
from noria.manifests.passes.migration import Migration, migration_of
from noria.manifests.passes.reversal import REVERSE_BASE
from noria.manifests.passes.standing_receipts import Receipts, StandingCount, find_standing
from noria.manifests.passes.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification found. Objects of PARTS shards count once for each lease of theirs."""

    job: str
    level: Level
    complete: bool
    reread: int
    """Objects whose every byte, as read back, is that of the receipt."""
    bytes: int
    damaged: int
    """Damaged, missing or replaced at the target."""
    unsettled: int
    """Entries that have no receipt yet: the job is not at its end."""
    gone_at_both: int = 0
    """Objects that are gone at the target, and of which the last pass found that the source no
    longer has them either. Not damaged."""
    unread: int = 0
    """Objects that stand, and of which no receipt says what their bytes are."""
    sample: SampleFinding | None = None
    """None: all that stands was read."""
    record: int | None = None
    """Number of the record in the history that says this. None: it did not come to its end."""
    proof: Mapping[str, Any] | None = None
    """As in RunReport."""
    seconds: float
    failures: tuple[Failure, ...] = ()
    causes: Mapping[str, int] = field(default_factory=dict)
    stopped: str | None = None
    interpreter: str = field(default_factory=describe_interpreter)
    """As in RunReport."""

    @property
    def exit_code(self) -> int:
        if not self.complete:
            return 3
        return 0 if self.damaged == self.unsettled == self.unread == 0 else 1


def verify(
    root: Path,
    *,
    address: str | None = None,
    ray: bool = False,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    show: Show = lambda status: None,
    show_keys: bool = False,
    sample: SampleWishes | None = None,
    sign: Sign | None = None,
) -> VerifyReport:
    """Read everything that stands back from the target and compare it with the receipts.

    Of a migration, by the receipts of all its passes and ways back; of a pass, by its own. Workers
    as in job.run(). With `sample`, only what is drawn for it is read. What was found is recorded in
    the migration's history, and `sign` signs that record. Raises ConfigurationError if a later pass
    was begun and has not ended, or a sample is asked for and what stands is not signed, and
    AnotherDriver, JobDirectoryError.
    """
    migration, number = migration_of(root)
    last = number if number > 1 else migration.last
    if sample is not None and number > 1:
        raise ConfigurationError(f"{root} is one pass: a sample is drawn from a whole migration")
    home, run_config = _open(migration, number, last, overrides)
    with home.directory.hold() as hold:
        started, area = time.monotonic(), f"verified/{hold.epoch:010d}"
        numbers = [number] if number > 1 else range(1, last + 1)
        has_gone_on = any(map(migration.has_gone_on, numbers))
        state = migration.state(migration.last) if has_gone_on else None
        drawn = None if sample is None else drawn_sample(migration, sample)
        parts = _parts(migration, numbers, state, home, area, drawn)
        before = load_status(home.directory) or moved_status(home)
        totals = _totals(home, parts, before)
        ending = drive_work(
            *(home, _work(parts, area), totals, run_config),
            cluster or open_cluster(address, ray=ray),
            hold=hold,
            fence=Fence(home.directory, hold.epoch),
            show=show,
        )
        if (said := ending.status) is not None:
            counted = replace(before, metrics=said.metrics, hosts=at_rest(said.hosts))
            save_status(home.directory, counted)
        was_followed = number == 1 and migration.last != last
        complete = ending.complete and not ending.quarantined and not was_followed
        is_all = complete and drawn is None
        failures, gone = _note_damage(home, area, parts, totals.failing, state, complete=is_all)
        sums = totals.sums
        causes = Counter(sums.causes) - Counter({GONE: gone})
        files = [path for _, path in failures]
        report = VerifyReport(
            job=job_parts(JobDirectory.open(root))[1].job_id,
            level=Level.REREAD if drawn is None else Level.SAMPLED,
            complete=complete,
            reread=sums.levels.get(Level.REREAD, 0),
            bytes=sums.landed_bytes,
            damaged=sums.outcomes.get(Outcome.FAILED, 0) - gone,
            unsettled=sum(_unsettled(part.receipts) for part in parts if not part.is_way_back),
            gone_at_both=gone,
            unread=_unread(state, parts) if number == 1 and drawn is None else 0,
            sample=None
            if drawn is None
            else sample_finding(drawn, home.directory, area, files, gone, complete=complete),
            seconds=time.monotonic() - started,
            failures=tuple(_listed(failures, show_keys)),
            causes=dict(causes),
            stopped=_GONE_ON if was_followed else ending.message,
        )
        return _recorded(report, migration, number, sign) if complete else report


def _recorded(
    report: VerifyReport, migration: Migration, number: int, sign: Sign | None
) -> VerifyReport:
    record = note_verified(migration, _facts(report, number), sign)
    return replace(report, record=record.number)


def _facts(report: VerifyReport, number: int) -> Facts:
    """What the record of a verification says."""
    facts: dict[str, str | int | bool] = {
        "level": report.level.value,
        "reread": report.reread,
        "bytes": report.bytes,
        "damaged": report.damaged,
        "unsettled": report.unsettled,
        "gone_at_both": report.gone_at_both,
        "unread": report.unread,
    }
    if number > 1:
        facts[PASS] = number
    if (found := report.sample) is not None:
        facts |= {f"sample_{name}": value for name, value in asdict(found).items()}
    return facts


def _open(
    migration: Migration, number: int, last: int, overrides: Mapping[str, Any] | None
) -> tuple[Prepared, RunConfig]:
    """The job that the verification is noted in. Raises ConfigurationError if it may not run."""
    if last > 1 and number == 1 and not has_ended(migration, last):
        raise ConfigurationError(
            f"pass {last} has not ended: `noria sync {migration.root}` brings it to its end first"
        )
    home = open_trusted(migration.place(last))
    run_config = run_config_of(home.config, overrides)
    refuse_foreign_commands(home.directory, run_config, overrides or {})
    return home, run_config


_GONE_ON: Final = "another pass was begun meanwhile, and replaces what was read: verify again"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A job whose receipts are read back."""

    receipts: Receipts
    place: JobDirectory
    """Where its damage is noted."""
    standing: StandingCount | None
    """None: all that it has."""

    @property
    def is_way_back(self) -> bool:
        return self.receipts.job.is_way_back

    def plans(self) -> Iterator[ShardPlan]:
        """Its shards with something to read: a huge object's parts are units like rows."""
        job, manifest = self.receipts.job, self.receipts.manifest
        for shard in manifest.shards():
            if self.standing is None or shard.shard in self.standing.shards:
                number = job.first_shard + shard.shard
                yield replace(shard, shard=number, kind=ShardKind.OBJECTS)

    def huge(self) -> Iterator[int]:
        """Its shards of one object, as numbered here."""
        for shard in self.receipts.manifest.shards():
            if shard.kind is ShardKind.PARTS:
                yield self.receipts.job.first_shard + shard.shard


def _parts(
    migration: Migration,
    numbers: Sequence[int],
    state: State | None,
    home: Prepared,
    area: str,
    sample: SampleDraw | None,
) -> list[_Part]:
    """The jobs to read back, with what of them stands; they are noted in the home's `area`.

    `sample` None: all of it is read.
    """
    opened, first_shard = list[Receipts](), 0
    for number, place in _places(migration, numbers):
        directory = JobDirectory.open(place)
        manifest = open_manifest(directory.manifest_path)
        job = JobReadBack(
            directory=str(place.absolute()),
            first_shard=first_shard,
            is_way_back=place != migration.place(number),
            all_stand=state is None or sample is not None,
            is_sampled=sample is not None,
        )
        opened.append(Receipts(job=job, directory=directory, manifest=manifest, number=number))
        first_shard += max(1, manifest.shard_count)  # each has a number of its own
    found: Sequence[StandingCount | None] = [None] * len(opened)
    if sample is not None:
        found = note_drawn(sample, opened, home.directory, area)
    elif state is not None:
        with scratch_folder(home.directory, home.config.plan.scratch) as scratch:
            found = find_standing(state, opened, home.directory, area, scratch)
    write_read_backs(home.directory, area, [each.job for each in opened])
    return [
        _Part(
            receipts=each,
            place=JobDirectory.open(migration.place(each.number)),
            standing=standing,
        )
        for each, standing in zip(opened, found, strict=True)
    ]


def _places(migration: Migration, numbers: Sequence[int]) -> Iterator[tuple[int, Path]]:
    """The job directories with their passes' numbers; each way back has that of its pass.

    A pass that is read alone is read by its own receipts alone.
    """
    for number in numbers:
        yield number, migration.place(number)
    if numbers[0] > 1:
        return
    for back in migration.ways_back():
        reversed_pass = back.reverses
        if reversed_pass is not None and back.has_ended and reversed_pass in numbers:
            for each in range(REVERSE_BASE + 1, back.migration.last + 1):
                yield reversed_pass, back.migration.place(each)


def _totals(home: Prepared, parts: Sequence[_Part], before: JobStatus) -> Totals:
    """What there is to read, and what of it shares a shard; counters go on from `before`."""
    manifests = [(part.receipts.manifest, part.standing) for part in parts]
    return Totals(
        home.facts.job_id,
        objects_total=sum(all_.objects if of is None else of.objects for all_, of in manifests),
        bytes_total=sum(all_.bytes_to_move if of is None else of.bytes for all_, of in manifests),
        earlier=before,
        is_lower_bound=before.bytes_moved_at_least or before.is_cut_off,
        shared=[number for part in parts for number in part.huge()],
    )


def _work(parts: Sequence[_Part], area: str) -> CrewWork:
    return CrewWork(
        shards=[plan for part in parts for plan in part.plans()],
        sizes=_sizes(parts),
        mode=Mode.REREAD,
        area=area,
    )


def _sizes(parts: Sequence[_Part]) -> list[dict[str, int]]:
    """Manifest.sizes of all of them together."""
    sums: dict[int, dict[str, int]] = {}
    for part in parts:
        for row in part.receipts.manifest.sizes:
            known = sums.setdefault(row["below"], {"below": row["below"], "objects": 0, "bytes": 0})
            known["objects"] += row["objects"]
            known["bytes"] += row["bytes"]
    return [sums[below] for below in sorted(sums)]


def _note_damage(
    home: Prepared,
    area: str,
    parts: Sequence[_Part],
    failing: Sequence[Seal],
    state: State | None,
    *,
    complete: bool,
) -> tuple[list[tuple[JobDirectory, Path]], int]:
    """Note in each pass what was found of its objects.

    Returns the files of what was, if anything, and how many objects are gone at both ends: they are
    not among it.
    """
    first_shards = [part.receipts.job.first_shard for part in parts]
    by_place: defaultdict[Path, list[Seal]] = defaultdict(list)
    for sealed in failing:
        place = parts[bisect_right(first_shards, sealed.shard) - 1].place
        by_place[place.root].append(sealed)
    found, gone = list[tuple[JobDirectory, Path]](), 0
    roots = dict.fromkeys(part.place.root for part in parts)
    for number, root in enumerate(roots, start=1):
        directory, seals = JobDirectory.open(root), by_place[root]
        if not seals and not known_damage(directory):
            continue
        name = f"{area}/damaged-{number:06d}.parquet"
        damaged = write_failures(home.directory, home.manifest, seals, name)
        gone += _drop_gone_at_both(state, home.directory, name)
        note_damage(directory, damaged, complete=complete)
        found.append((directory, damaged))
    return found, gone


def _drop_gone_at_both(state: State | None, home: JobDirectory, name: str) -> int:
    """Take what is gone at both ends out of a file of damage; returns how many they are."""
    table = pq.read_table(home.path(name))
    missing = table["key"].filter(pc.equal(table["cause"], GONE)).combine_chunks()
    if state is None or not len(missing):
        return 0
    gone = [pa.array([], pa.string())]
    for block in state.blocks(["key", "gone_since"]):
        block = block.filter(block["gone_since"].is_valid())
        gone += block["key"].filter(pc.is_in(block["key"], value_set=missing)).chunks
    is_gone = pc.is_in(table["key"], value_set=pa.concat_arrays(gone))
    rest = table.filter(pc.invert(is_gone))
    if len(rest) < len(table):
        scratch = home.path(name).with_name(f".{Path(name).name}")
        pq.write_table(rest, scratch, compression="zstd")
        home.publish(scratch, name)
    return len(table) - len(rest)


def _listed(found: Sequence[tuple[JobDirectory, Path]], show_keys: bool) -> Iterator[Failure]:
    """The first few of all passes, under the pseudonyms that each pass has for them."""
    each = (listed_failures(directory, path, show_keys) for directory, path in found)
    return islice(chain.from_iterable(each), LISTED_FAILURES)


def _unsettled(of: Receipts) -> int:
    settled = sum(sealed.summary.entries for sealed in read_seals(of.directory))
    return of.manifest.objects - settled


def _unread(state: State | None, parts: Sequence[_Part]) -> int:
    """How many objects stand of which no receipt says what their bytes are."""
    known = (part.standing.objects for part in parts if part.standing is not None)
    return 0 if state is None else state.facts.objects - sum(known)
