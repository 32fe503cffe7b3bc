"""Seals: which results count.

    sealed/00012/00012345-KIND-GENERATION-FIRST-ATTEMPT.json   names the one result that counts
    sealed/segments/00012/SHA256.json                          many seals, one on a line
    superseded/ATTEMPT/sealed/00012/...                        a seal that was taken back

The driver, which alone knows whose attempt is live, seals a finished lease: a small file that names
the result and its SHA-256. What is sealed counts; nothing else does.

A hundred seals of a thousand shards are compacted: written to a segment, whose name is the SHA-256
of its bytes, and removed when that is on disk. A reader reads single files first, and only then
looks for segments: so it misses none, and what it finds in both places is one seal.

Of the seals of the same units the one of the newest attempt counts: an older one may come late,
from a driver that has lost its job and does not know it yet. So it is if two drivers have cut a
shard differently, and their seals only overlap: units of the older one alone are open again. None
counts that is older than the attempt with which such a seal was taken back.

A seal carries the SHA-256 of its own fields, so that damage to it shows as soon as it is read.
Those of earlier versions carry none; reconcile counts the receipts of all seals again. Earlier
versions wrote sealed/SHARD/KIND-GENERATION-FIRST.json.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import (
    ATTEMPTS_PER_EPOCH,
    SHARDS_TOGETHER,
    JobDirectory,
    flat_shard_folder,
)
from noria.manifests.model import (
    LeaseKind,
    LeaseResult,
    ReceiptSummary,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What counts for units [first, end) of a shard."""

    shard: int
    kind: LeaseKind
    first: int
    end: int
    attempt: int
    generation: int
    result_name: str
    result_sha256: str
    summary: ReceiptSummary


Units: TypeAlias = tuple[int, LeaseKind, int, int]
"""Shard, kind, generation and first unit: what a seal is about."""
Result = TypeVar("Result")

SEGMENT_SEALS = 100
"""So many seals of a thousand shards are worth a segment."""
SIDE_BY_SIDE = 64
"""Folders that are read at a time: on a network each file is several round trips."""
UNITS_MAX = 2**31 - 1
"""Rows and parts of a shard are counted in int32."""
_DIGEST = "seal_sha256"
_FLAT_KEYS = {
    "outcome": "outcomes",
    "bytes": "outcome_bytes",
    "level": "levels",
    "cause": "causes",
}
_NAME = re.compile(
    r".*/([0-9]{8,10})[-/](objects|parts|assemble)-([0-9]{6,})-([0-9]{8,10})(?:-[0-9]+)?\.json"
)
"""As seals of this and of earlier editions are called."""
_RUN = re.compile("superseded/([0-9]+)")


def seal(directory: JobDirectory, result: LeaseResult, area: str = "sealed") -> Seal:
    """Write the seal of an accepted result, durably. May be repeated."""
    name, data = f"{area}/{_seal_name(result)}", _text(result).encode() + b"\n"
    sealed = _seal(name, data)
    directory.put(name, data)
    return sealed


def read_seals(
    directory: JobDirectory, area: str = "sealed", shard: int | None = None
) -> Iterator[Seal]:
    """Every seal of the job that counts, or those of one shard, in order."""
    if shard is None:
        yield from itertools.chain.from_iterable(read_seals_by_shard(directory, area))
    else:
        yield from _read(directory, area, _places(directory, area, shard), shard)


def read_seals_by_shard(directory: JobDirectory, area: str = "sealed") -> Iterator[list[Seal]]:
    """Every seal of the job that counts, those of a shard together."""
    places = _all_places(directory, area)
    for seals in _side_by_side(partial(_read, directory, area), places):
        for _, group in itertools.groupby(seals, key=lambda sealed: sealed.shard):
            yield list(group)


def compact_seals(directory: JobDirectory, area: str = "sealed") -> None:
    """Put seals that lie in files of their own into segments, where there are enough of them.

    For the one driver. May be repeated, and may end at any line.
    """
    for _ in _side_by_side(partial(_compact, directory, area), _all_places(directory, area)):
        pass


def compact_shards(directory: JobDirectory, area: str, shard: int) -> None:
    """As compact_seals(), for the thousand shards of which this is one."""
    thousand = shard // SHARDS_TOGETHER
    folder = f"{area}/{thousand:05d}"
    _compact(directory, area, _Places(thousand=thousand, single=[folder]))


def supersede_seal(directory: JobDirectory, sealed: Seal, attempt: int) -> None:
    """Take a seal back, durably: its units have to be sealed again, by a newer attempt."""
    name = _seal_name(sealed)
    directory.put(f"superseded/{attempt:018d}/sealed/{name}", _text(sealed).encode() + b"\n")
    for each in (name, _earlier_name(sealed)):
        directory.discard(f"sealed/{each}")


# -- where seals are -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Places:
    """Where the seals of a thousand shards are, or those of one of them."""

    thousand: int
    single: list[str] = field(default_factory=list)
    """Folders of seals in files of their own."""
    superseded: list[str] = field(default_factory=list)
    """Folders of seals that were taken back."""


def _all_places(directory: JobDirectory, area: str) -> list[_Places]:
    single = _by_thousand(directory.folders(area))
    in_segments = _by_thousand(directory.folders(f"{area}/segments"))
    runs = _runs_that_took_back(directory, area)
    superseded = _by_thousand(itertools.chain.from_iterable(map(directory.folders, runs)))
    return [
        _Places(
            thousand=thousand,
            single=single.get(thousand, []),
            superseded=superseded.get(thousand, []),
        )
        for thousand in sorted({*single, *in_segments})
    ]


def _places(directory: JobDirectory, area: str, shard: int) -> _Places:
    thousand = shard // SHARDS_TOGETHER
    areas = [area, *_runs_that_took_back(directory, area)]
    folders = [[f"{each}/{thousand:05d}", flat_shard_folder(each, shard)] for each in areas]
    superseded = list(itertools.chain.from_iterable(folders[1:]))
    return _Places(thousand=thousand, single=folders[0], superseded=superseded)


def _runs_that_took_back(directory: JobDirectory, area: str) -> list[str]:
    if area != "sealed":  # what a verification finds is not tried again
        return []
    runs = (_RUN.fullmatch(folder) for folder in directory.folders("superseded"))
    return [f"{run[0]}/{area}" for run in runs if run]


def _by_thousand(folders: Iterable[str]) -> dict[int, list[str]]:
    """Folders by whose seals they hold: a thousand shards', or one's, in earlier editions."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for folder in folders:
        number = folder.rpartition("/")[2]
        if number.isascii() and number.isdecimal():
            found[int(number) // (SHARDS_TOGETHER if _is_shard(number) else 1)].append(folder)
    return found


def _is_shard(number: str) -> bool:
    return len(number) >= 8


def _side_by_side(call: Callable[[_Places], Result], places: Sequence[_Places]) -> Iterator[Result]:
    """The results in order. No more than SIDE_BY_SIDE of them are held at a time."""
    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="seals") as pool:
        for start in range(0, len(places), SIDE_BY_SIDE):
            yield from pool.map(call, places[start : start + SIDE_BY_SIDE])


# -- reading and compacting ------------------------------------------------------------------------


def _read(
    directory: JobDirectory, area: str, places: _Places, shard: int | None = None
) -> list[Seal]:
    """The seals that count of a thousand shards, or of one, in order."""
    names = _json_names(directory, places.single)
    if shard is not None:
        names = [name for name in names if _is_of(name, shard)]
    seals = _read_single(directory, names)
    if shard is not None:
        # A client of NFS that knows of no such folder looks again once it has opened its parent.
        for parent in (area, f"{area}/segments"):
            directory.folders(parent)
    # Only now: what has left its own file meanwhile is in a segment.
    for name in _json_names(directory, [f"{area}/segments/{places.thousand:05d}"]):
        seals += _read_segment(directory, name, shard)
    return _counted(seals, _taken_back(directory, places))


def _is_of(name: str, shard: int) -> bool:
    found = _NAME.fullmatch(name)
    return found is not None and int(found[1]) == shard


def _json_names(directory: JobDirectory, folders: Iterable[str]) -> list[str]:
    """Files of other names are not Noria's, and are ignored."""
    names = itertools.chain.from_iterable(map(directory.names, folders))
    return [name for name in names if name.endswith(".json")]


def _read_single(directory: JobDirectory, names: Iterable[str]) -> list[Seal]:
    """Those that are still there: a file that is gone is in a segment, or was taken back."""
    found = ((name, directory.read(name)) for name in names)
    return [_seal(name, data) for name, data in found if data is not None]


def _taken_back(directory: JobDirectory, places: _Places) -> dict[Units, int]:
    """Units -> the newest attempt with which a seal of them was taken back."""
    newest: dict[Units, int] = {}
    for folder in places.superseded:
        attempt = int(folder.split("/")[1])
        for found in filter(None, map(_NAME.fullmatch, directory.names(folder))):
            shard, kind, generation, first = found.groups()
            units = int(shard), LeaseKind(kind), int(generation), int(first)
            newest[units] = max(newest.get(units, 0), attempt)
    return newest


def _counted(seals: Iterable[Seal], taken_back: Mapping[Units, int]) -> list[Seal]:
    newest: dict[Units, Seal] = {}
    for sealed in seals:
        units = sealed.shard, sealed.kind, sealed.generation, sealed.first
        if sealed.attempt <= taken_back.get(units, -1):
            continue
        known = newest.setdefault(units, sealed)
        if known.attempt < sealed.attempt:
            newest[units] = sealed
        elif known.attempt == sealed.attempt and known != sealed:
            raise JobDirectoryError(
                f"two seals of {sealed.result_name} differ; restore them from a copy of the job"
            )
    return _without_overtaken([newest[units] for units in sorted(newest)])


def _without_overtaken(seals: Iterable[Seal]) -> list[Seal]:
    """In the same order, without those of which another driver has sealed units by a newer attempt.

    What is left open is done again. One driver seals no units twice: such seals are damage, which
    stays for whoever reads them to refuse.
    """
    kept: list[Seal] = []
    for sealed in seals:
        while kept and _are_of_two_drivers(kept[-1], sealed):
            if kept[-1].attempt > sealed.attempt:
                break
            kept.pop()
        else:
            kept.append(sealed)
    return kept


def _are_of_two_drivers(one: Seal, next_one: Seal) -> bool:
    """Return True if both are of some unit, and of different epochs. The first begins no later."""
    both = (one, next_one)
    of = {(each.shard, each.kind, each.generation) for each in both}
    epochs = {each.attempt // ATTEMPTS_PER_EPOCH for each in both}
    return next_one.first < one.end and len(of) == 1 and len(epochs) == 2


def _compact(directory: JobDirectory, area: str, places: _Places) -> None:
    names = _json_names(directory, places.single)
    if len(names) < SEGMENT_SEALS:
        return
    lines = sorted(map(_text, _read_single(directory, names)))
    data = ("[\n" + ",\n".join(lines) + "\n]\n").encode()
    digest = hashlib.sha256(data).hexdigest()
    directory.put(f"{area}/segments/{places.thousand:05d}/{digest}.json", data)
    for name in names:
        directory.discard(name)
    for folder in places.single:
        if _is_shard(folder.rpartition("/")[2]):  # of an earlier edition: nobody writes there
            directory.discard(folder)


def _read_segment(directory: JobDirectory, name: str, shard: int | None) -> list[Seal]:
    """Its seals, or those of one shard. Raises JobDirectoryError if it is not what was written."""
    data = directory.read(name) or b""
    try:
        if f"/{hashlib.sha256(data).hexdigest()}.json" != name[name.rindex("/") :]:
            raise ValueError("another digest")
        if shard is not None:
            mark = f'"shard": {shard},'.encode()
            lines = (line.removesuffix(b",") for line in data.splitlines() if mark in line)
            data = b"[" + b",".join(lines) + b"]"
        seals = _segment_reader().validate_json(data, strict=True)
    except ValueError:
        seals = None
    thousand = int(name.split("/")[-2])
    if seals is None or not all(
        _is_sound(sealed) and sealed.shard // SHARDS_TOGETHER == thousand for sealed in seals
    ):
        raise JobDirectoryError(f"{name} is damaged; restore it from a copy of the job")
    return seals


def _text(of: LeaseResult | Seal) -> str:
    """The one line that a seal is."""
    values = {item.name: getattr(of, item.name) for item in fields(Seal) if item.name != "summary"}
    values["summary"] = asdict(of.summary)
    return json.dumps({**values, _DIGEST: _digest(values)}, sort_keys=True)


def _seal(name: str, data: bytes) -> Seal:
    try:
        sealed = _reader().validate_json(_with_nested_summary(_checked(data)), strict=True)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        sealed = None
    if (
        sealed is None
        or not _is_sound(sealed)
        or not name.endswith((f"/{_seal_name(sealed)}", f"/{_earlier_name(sealed)}"))
    ):
        raise JobDirectoryError(f"{name} is damaged; restore it from a copy of the job")
    return sealed


@functools.cache
def _reader() -> TypeAdapter[Seal]:
    """What checks a seal: there may be hundreds of thousands, and this is the fastest way.

    Loaded with the first: most workers read none.
    """
    from pydantic import TypeAdapter

    return TypeAdapter(Seal)


@functools.cache
def _segment_reader() -> TypeAdapter[list[Seal]]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[Seal])


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _checked(data: bytes) -> bytes:
    """The same bytes. Raises ValueError if they state a digest that is not theirs."""
    values = json.loads(data)
    stated = values.pop(_DIGEST, None)
    if stated is not None and stated != _digest(values):
        raise ValueError("another digest")
    return data


def _with_nested_summary(data: bytes) -> bytes:
    """A seal as it is written now. Earlier versions wrote its summary with flat keys.

    `outcome.X`, `bytes.X`, `level.X` and `cause.X` are the keys X of four mappings; others stay,
    and are ignored unless they are fields. Raises what reading something else than a seal raises.
    """
    values = json.loads(data)
    if "outcomes" in values["summary"]:
        return data
    nested: dict[str, Any] = {field: {} for field in _FLAT_KEYS.values()}
    for key, number in values["summary"].items():
        prefix, _, name = key.partition(".")
        if name and prefix in _FLAT_KEYS:
            nested[_FLAT_KEYS[prefix]][name] = number
        else:
            nested[key] = number
    return json.dumps({**values, "summary": nested}).encode()


def _seal_name(of: LeaseResult | Seal) -> str:
    """Below the area of the seals."""
    units = f"{of.kind}-{of.generation:06d}-{of.first:08d}"
    return f"{of.shard // SHARDS_TOGETHER:05d}/{of.shard:08d}-{units}-{of.attempt:018d}.json"


def _earlier_name(of: Seal) -> str:
    """As earlier editions called it."""
    return f"{of.shard:08d}/{of.kind}-{of.generation:06d}-{of.first:08d}.json"


def _is_sound(sealed: Seal) -> bool:
    summary = sealed.summary
    counts = (summary.levels, summary.causes, summary.changes)
    sums = (summary.outcomes, summary.outcome_bytes, *counts)
    numbers = (
        *(sealed.shard, sealed.attempt, sealed.generation),
        *(summary.bytes_moved, summary.part_bytes),
        *itertools.chain.from_iterable(each.values() for each in sums),
    )
    result = PurePosixPath(sealed.result_name)
    inside = not result.is_absolute() and ".." not in result.parts
    return inside and min(numbers) >= 0 and 0 <= sealed.first <= sealed.end <= UNITS_MAX
