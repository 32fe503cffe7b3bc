"""What these ends give, measured: a sample of the job's objects is moved, and removed again.

Four small jobs, by the real data plane, to `.noria-probe-RANDOM/estimate/` below the target: some
objects of less than a megabyte, then more of them; the same of larger ones. What more of them take
gives the two constants of rates.py, what a transfer costs and what a byte does; what the first ones
take besides is what every run costs: to start, to find its pace, and to end.

Each estimate has a place of its own, and removes what it wrote there, open uploads included. What
an estimate that was killed has left is removed by one that comes a day later: until then it may be
another one's that is at work.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from noria.engine import job
from noria.engine.cluster.opening import open_cluster
from noria.engine.config.filters import FilterConfig
from noria.engine.config.jobfile import EndConfig, InventoryConfig, JobConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.estimate.counts import fitted_parts
from noria.engine.estimate.estimate import Planned
from noria.engine.estimate.rates import TRANSFER_BYTES, RateModel
from noria.engine.made_targets import is_missing
from noria.engine.planning import Say, prepared
from noria.engine.scratch import lone_scratch_folder
from noria.manifests.count_text import count_text
from noria.manifests.errors import AccessDenied, ConfigurationError, NoriaError
from noria.manifests.manifest.reader import Manifest
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import PUT_BYTES, suitable_part_bytes
from noria.workers.stores.inspection import InspectedStore, Protection
from noria.workers.stores.listing import Listing
from noria.workers.stores.paced import PacedTarget

SMALL_BYTES: Final = 1_000_000
"""An object of less is small: the request weighs more than its bytes."""
SMALL_OBJECTS: Final = 1_000
LARGE_OBJECTS: Final = 256
SAMPLE_BYTES: Final = 400_000_000
"""Most of the small ones, and of the larger ones, together."""
FIRST_SHARE: Final = 8
"""Of a sample, one in so many is moved first, alone."""
SHARDS: Final = 8
"""From which the sample is drawn, spread over the whole manifest."""
REMOVAL_STREAMS: Final = 32
LEFT_SECONDS: Final = 86_400
"""What lies at the place of an estimate for longer was left there: its jobs take minutes."""
LOAD_SECONDS: Final = 0.6
"""Until a command has loaded what it needs."""
LEAST_SECONDS: Final = 0.05
"""What a sample took at least: a clock that says less says nothing."""


_PLACE: Final = re.compile(r"\.noria-probe-[0-9a-f]{12}/estimate/")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSample:
    """Objects of a job, by their names below the source's prefix."""

    keys: Sequence[str] = ()
    bytes: int = 0
    transfers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRun:
    """How long it took to move a sample."""

    sample: DrawnSample = DrawnSample()
    plan_seconds: float = 0.0
    run_seconds: float = 0.0


Twice: TypeAlias = tuple[SampleRun, SampleRun]
"""Some of a sample, and all of it."""


def measure(plan: Planned, workers: int, say: Say) -> RateModel:
    """Move samples with so many workers of this machine; raises what a job raises.

    Raises ConfigurationError if there is nothing to move, if the target is missing or would keep
    what is deleted, or if not all arrived.
    """
    options = plan.manifest.options
    if plan.config.plan.part_bytes is None:
        part_bytes = suitable_part_bytes(SAMPLE_BYTES, chunk_bytes=options.chunk_bytes)
        options = replace(options, part_bytes=part_bytes, put_bytes=PUT_BYTES)
    samples = draw_samples(plan.manifest, options)
    if not samples:
        raise ConfigurationError("there is nothing to move, so that nothing can be measured")
    place = f"{plan.facts.target_prefix}.noria-probe-{secrets.token_hex(6)}/estimate/"
    store = open_end(plan.config.target)
    try:
        if is_missing(store, plan.config.target):
            raise ConfigurationError(
                f"target {plan.config.target.location} is missing, so that nothing can be measured "
                "there: make it, or estimate without --probe"
            )
        _refuse_keeping(store, say)
        with lone_scratch_folder(f"estimate\0{plan.config.target.url}", None) as folder:
            moved = _ProbeJobs(plan.config, store, place, folder, workers, say)
            remove_left(store, plan.config.target, plan.facts.target_prefix, time.time())
            try:
                runs = [(moved.move(some), moved.move(every)) for some, every in samples]
            finally:
                moved.clear()
    finally:
        store.close()
    return fitted_model(runs, workers)


def fitted_model(runs: Sequence[Twice], workers: int) -> RateModel:
    """The constants by which moving the samples takes as long as it took."""
    more = [_more(first, second) for first, second in runs]
    price = _price(more)
    rate = sum(each.bytes + price * each.transfers for each, _ in more) / sum(
        seconds for _, seconds in more
    )
    first = [run for run, _ in runs]
    besides = [
        run.run_seconds - (run.sample.bytes + price * run.sample.transfers) / rate for run in first
    ]
    planning = max(run.plan_seconds for each in runs for run in each)
    moved = sum(len(run.sample.keys) for _, run in runs)
    size = sum(run.sample.bytes for _, run in runs)
    return RateModel(
        worker_rate=rate / workers,
        transfer_bytes=price,
        fixed_seconds=LOAD_SECONDS + planning + max(0.0, sum(besides) / len(besides)),
        measured=(
            f"{count_text(moved, 'object')}, {count_text(size, 'byte')}, by "
            f"{count_text(workers, 'worker')} of this machine"
        ),
    )


def _more(first: SampleRun, second: SampleRun) -> tuple[DrawnSample, float]:
    """What the second run moved more than the first, and how much longer it took."""
    some, every = first.sample, second.sample
    more = DrawnSample(bytes=every.bytes - some.bytes, transfers=every.transfers - some.transfers)
    return more, max(LEAST_SECONDS, second.run_seconds - first.run_seconds)


def _price(more: Sequence[tuple[DrawnSample, float]]) -> float:
    """What a transfer costs, in bytes; what rates.py has if the samples do not tell."""
    if len(more) < 2:
        return TRANSFER_BYTES
    (small, of_small), (large, of_large) = more
    # (bytes + price * transfers) / seconds is the same rate for both.
    divisor = small.transfers * of_large - large.transfers * of_small
    if divisor <= 0:
        return TRANSFER_BYTES
    return max(0.0, (large.bytes * of_small - small.bytes * of_large) / divisor)


def draw_samples(manifest: Manifest, options: PlanOptions) -> list[tuple[DrawnSample, DrawnSample]]:
    """Of small objects, then of larger ones: some of a sample, and all of it.

    They are spread over the manifest, and move with these options. Of one object alone, "some" are
    none; a kind that the manifest does not have is left out.
    """
    count = manifest.shard_count
    chosen = sorted({number * count // SHARDS for number in range(SHARDS)} if count else ())
    small, large = [], []
    for shard in chosen:
        columns = ["key", "size", "reason", "target_key"]
        for table in manifest.read_shards(shard, shard + 1, columns):
            simple = pc.and_(
                pc.and_(pc.is_null(table["reason"]), pc.is_null(table["target_key"])),
                pc.invert(pc.match_substring_regex(table["key"], "[\r\n]")),
            )
            rows = table.filter(simple).select(["key", "size"])
            is_small = pc.less(rows["size"], SMALL_BYTES)
            fits = pc.less_equal(rows["size"], SAMPLE_BYTES // 2)
            small.append(rows.filter(is_small))
            large.append(rows.filter(pc.and_(pc.invert(is_small), fits)))
    kinds = ((small, SMALL_OBJECTS), (large, LARGE_OBJECTS))
    drawn = (_drawn(tables, most) for tables, most in kinds if any(map(len, tables)))
    return [(_sample(_some(rows), options), _sample(rows, options)) for rows in drawn]


def _drawn(tables: Sequence[pa.Table], most: int) -> pa.Table:
    """Rows of all of them, so many at most, and as many as fit into SAMPLE_BYTES."""
    rows = _spread(pa.concat_tables(tables), most)
    while (size := pc.sum(rows["size"]).as_py()) > SAMPLE_BYTES and len(rows) > 1:
        rows = _spread(rows, min(len(rows) - 1, int(len(rows) * SAMPLE_BYTES / size)) or 1)
    return rows


def _some(rows: pa.Table) -> pa.Table:
    return _spread(rows, min(len(rows) - 1, -(-len(rows) // FIRST_SHARE)))


def _spread(rows: pa.Table, at_most: int) -> pa.Table:
    count = min(len(rows), at_most)
    return rows.take(pa.array([n * len(rows) // count for n in range(count)], pa.int64()))


def _sample(rows: pa.Table, options: PlanOptions) -> DrawnSample:
    sizes = rows["size"].to_numpy()
    parts, _ = fitted_parts(sizes, options)
    return DrawnSample(
        keys=rows["key"].to_pylist(),
        bytes=int(sizes.sum()),
        transfers=int(parts.sum() + (parts == 0).sum()),
    )


class _ProbeJobs:
    """Jobs that move some objects of another job to a place below its target."""

    def __init__(
        self,
        config: JobConfig,
        store: InspectedStore,
        place: str,
        folder: Path,
        workers: int,
        say: Say,
    ) -> None:
        self._config = config
        self._store = store
        self._place = place
        self._folder = folder
        self._workers = workers
        self._say = say
        self._jobs = 0
        self._path = _folder_of(config.target, place)

    def move(self, sample: DrawnSample) -> SampleRun:
        """Move it to an empty place. Raises ConfigurationError if it did not all arrive."""
        if not sample.keys:
            return SampleRun()
        moving = count_text(len(sample.keys), "object")
        self._say(f"moving {moving} to {self._place}, to be removed again")
        self.clear()
        self._jobs += 1
        root = self._folder / f"job-{self._jobs}"
        config = self._job(sample)
        with open_cluster(None, ray=False) as cluster:
            cluster.prestart()
            began = time.monotonic()
            with prepared(config, root, _silent) as ready:
                planned_in = time.monotonic() - began
                ended = job.run(root, cluster=cluster, planned=ready)
        if not ended.complete or ended.failed:
            raise ConfigurationError(
                f"the sample did not arrive ({ended.stopped or ended.causes}): nothing is known of "
                "how fast the job would be"
            )
        return SampleRun(sample=sample, plan_seconds=planned_in, run_seconds=ended.seconds)

    def clear(self) -> None:
        """Remove what lies at the place. Raises ConfigurationError if the target refuses it."""
        with _removal(self._place):
            if self._path is None:
                self._clear_store()
            elif self._path.parent.exists():
                shutil.rmtree(self._path.parent)

    def _clear_store(self) -> None:
        target = PacedTarget(inner=self._store)
        try:
            for upload in target.list_uploads(self._place):
                target.abort_upload(upload.key, upload.upload_id)
        except AccessDenied:
            if not self._jobs:
                self._say(
                    f"open uploads may not be listed here: if this is stopped, look below "
                    f"{self._place} for some"
                )
        with (
            Listing(self._store, self._place, streams=1) as listing,
            ThreadPoolExecutor(REMOVAL_STREAMS) as streams,
        ):
            for batch in listing:
                list(streams.map(target.delete_object, batch["key"].to_pylist()))

    def _job(self, sample: DrawnSample) -> JobConfig:
        names = self._folder / f"names-{self._jobs}"
        names.write_text("".join(f"{key}\n" for key in sample.keys), encoding="utf-8")
        config = self._config
        return config.model_copy(
            update={
                "target": _below(config.target, self._place),
                "inventory": InventoryConfig(kind="keys", url=f"file://{names}", names="relative"),
                "filter": FilterConfig(),
                "run": config.run.model_copy(
                    update={"workers": self._workers, "metrics_address": "off"}
                ),
            }
        )


def remove_left(store: InspectedStore, end: EndConfig, prefix: str, now: float) -> None:
    """Remove what estimates have left below a target's prefix LEFT_SECONDS before `now`, Unix time.

    Raises ConfigurationError if the target refuses it. Open uploads that may not be listed stay.
    """
    before = now - LEFT_SECONDS
    with _removal(f"{prefix}.noria-probe-*/estimate/"):
        folder = _folder_of(end, prefix)
        if folder is not None:
            for place in folder.glob(".noria-probe-*/estimate"):
                if _PLACE.fullmatch(f"{place.relative_to(folder)}/") and _is_left(place, before):
                    shutil.rmtree(place.parent)
            return
        target = PacedTarget(inner=store)
        with contextlib.suppress(AccessDenied):
            for upload in target.list_uploads(f"{prefix}.noria-probe-"):
                if _PLACE.match(upload.key[len(prefix) :]) and upload.started_ms < before * 1000:
                    target.abort_upload(upload.key, upload.upload_id)
        with Listing(store, f"{prefix}.noria-probe-", streams=1) as listing:
            for batch in listing:
                for key, modified in zip(
                    batch["key"].to_pylist(), batch["last_modified"].to_pylist(), strict=True
                ):
                    is_old = modified is not None and modified.timestamp() < before
                    if is_old and _PLACE.match(key[len(prefix) :]):
                        target.delete_object(key)


def _is_left(place: Path, before: float) -> bool:
    """Whether a folder, which is not a link, is that old."""
    links = place.is_symlink() or place.parent.is_symlink()
    return not links and place.stat().st_mtime < before


@contextlib.contextmanager
def _removal(place: str) -> Iterator[None]:
    """Raises ConfigurationError for what the block cannot remove."""
    try:
        yield
    except (NoriaError, OSError) as error:
        why = error.message if isinstance(error, NoriaError) else error.strerror or error
        raise ConfigurationError(
            f"what lies below {place} at the target cannot be removed ({why}): remove it there"
        ) from error


def _folder_of(end: EndConfig, name: str) -> Path | None:
    """The folder of this name at an end; None if it is not a folder."""
    location = end.location
    return Path(location.container) / name if location.scheme is Scheme.FILE else None


def _below(end: EndConfig, place: str) -> EndConfig:
    """The end at a place whose whole name this is."""
    url = str(replace(end.location, path=place))
    return end.model_copy(update={"url": url})


def _refuse_keeping(store: InspectedStore, say: Say) -> None:
    """Raise ConfigurationError if what is written stays for ever, or as an old version."""
    try:
        kept = store.protection()
    except NoriaError:
        kept = Protection()
    if kept.versioned or kept.keeps_canaries:
        raise ConfigurationError(
            "the target keeps what is deleted (versions, or retention), so that no sample is moved "
            "there: estimate without --probe"
        )
    if kept.versioned is None:
        say(
            "the target does not say whether it keeps what is deleted: if it does, the samples "
            "stay there as old versions"
        )


def _silent(line: str) -> None:
    pass
