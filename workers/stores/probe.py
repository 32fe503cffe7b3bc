"""Find out what a target really does, before a job is planned, by canaries that are removed again.

Servers that speak S3 differ in what they verify and in how they treat odd names, and announce none
of it. So a checksum counts only if a wrong one was refused, If-None-Match only if it was honoured
for a PUT and for a completed upload, If-Match likewise (matching.py), and a name only if a listing
returns it unchanged.

A condition that holds when one asks after the other may still fail when both ask at once: SeaweedFS
4.48 completes two uploads of one key, each with If-None-Match. So all are raced as well. A probe
takes about 120 requests, in four round trips if the target verifies CRC64NVME: what does not
depend on each other goes at once.

A bucket may keep what is written for days, whoever deletes it. It gets no object: what a part tells
is asked by parts of an upload, which is aborted (find_part_facts).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Final, TypeVar

from noria.manifests.errors import (
    AccessDenied,
    ClockSkewed,
    ConfigurationError,
    DigestRefused,
    NoriaError,
    StoreUnavailable,
    TargetConflict,
    TargetRefused,
    Throttled,
    UploadLost,
)
from noria.manifests.plan.providers import NameRules, known_name_rules
from noria.workers.stores.background import BackgroundCall, all_results
from noria.workers.stores.canaries import BODY, CRC, METADATA, Canaries
from noria.workers.stores.matching import MatchingLook
from noria.workers.stores.paced import PacedTarget
from noria.workers.stores.protocol import (
    NOTHING_KNOWN,
    Checksum,
    TargetCapabilities,
)
from noria.workers.stores.trials import Lap, answers, are_single_winners, lap, raises, works

T = TypeVar("T")

CONNECTIONS: Final = 48
"""About as many requests of a probe are under way at once."""
LAST_RACER_SECONDS: Final = 10.0
"""How long the first waits for the last: one answer that is tried again takes five."""
LOST_UPLOADS: Final = 2
"""Uploads that may be lost before one tells whether it would replace an object."""
LONG_SEGMENT: Final = "n" * 256
"""One byte more than file systems take (255 bytes), and stores built on them."""
TAGS: Final = {"canary": "yes", "with space": "a+b=c"}
CONTROL: Final = "control\x01\x1f\x7fx"
_NOTHING: Final = memoryview(b"")
ODD_NAMES: Final = {
    "spaces": "odd/two  spaces and a + x",
    "per cent signs": "odd/100%25 of 41%41 x",
    "letters beyond ASCII": "odd/e\u0301-\u00e9-\u65e5\u672c-\U0001f600",
    "signs of URLs": "odd/?a=b#c&d;e@f'g\"h*i",
    "upper and lower case": "odd/Case",
    "names of 900 bytes": "odd/" + "/".join("n" * 149 for _ in range(6)),
}
"""Names that every store should keep as they are, by what is odd about them. No rule is made of
what becomes of them: they are tried if a person asks."""
_OTHER_CASE: Final = "odd/case"
_NAMES: Final = ("empty//x", "back\\x", "dot/./x", "dots/../x", "trail./x.", LONG_SEGMENT)
"""Names that are tried by a PUT alone; `body/`, `stub/` and _BOTH take more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard the probe looks. What it lacks in rounds, a race may be won by luck."""

    upload_races: int = 3
    """Names for which uploads race, all at once: one after the other, each would cost a round trip.
    """
    upload_racers: int = 4
    """Uploads of each name: six pairs, of which each is seen to succeed twice in 17 of 40 tries on
    SeaweedFS 4.48. More would wait for new connections, and not start together."""
    put_races: int = 5
    """Names for which PUTs race, all at once."""
    put_racers: int = 2
    """PUTs of each name. SeaweedFS takes half a second over four that are conditional, and two over
    eight."""
    match_races: int = 3
    """Names for which two PUTs that replace the same object race, and a PUT and a DELETE."""
    asks_more: bool = False
    """Also try what no plan depends on: ODD_NAMES, tags and metadata."""


QUICK: Final = Effort()
"""For a plan: what it costs is waited for, each time."""
THOROUGH: Final = Effort(
    upload_races=5,
    upload_racers=16,
    put_races=5,
    put_racers=16,
    match_races=10,
    asks_more=True,
)
"""For a person who asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """What the probe found out."""

    capabilities: TargetCapabilities
    name_rules: NameRules
    provider: str | None
    """A name in manifests.plan.providers, if the target's responses give it away."""
    lists_parts: bool = True
    """A part that was sent is listed, so that an upload can be gone on with."""
    wrote_objects: bool = True
    """False: only parts were tried, and what an object would tell is taken for bad."""
    spoiled_names: tuple[str, ...] = ()
    """Of ODD_NAMES, those that are refused or changed; empty also if they were not tried."""
    keeps_metadata: bool | None = None
    """None: not tried."""
    keeps_tags: bool | None = None
    """False: it takes a write with tags and drops them. None: it refused one, or shows no tags."""


def find_target_facts(canaries: Canaries, effort: Effort = QUICK) -> TargetFacts:
    """Probe the target; its canaries are left to the caller, who has to remove them.

    Raises what a plain PUT or a plain upload raises, because then nothing can be moved there.
    """
    for checksum in (Checksum.CRC64NVME, Checksum.MD5):
        found = _Look(canaries, TargetCapabilities(checksum=checksum), effort).facts()
        if found is not None:
            return found
    found = _Look(canaries, NOTHING_KNOWN, effort).facts()
    assert found is not None, "a target that takes no plain write has raised"
    return found


def find_part_facts(canaries: Canaries) -> TargetFacts:
    """As find_target_facts(), for a target that would keep every object: none is written.

    What parts do not tell is taken as bad as it can be: no condition holds, and names fare as they
    are known to.
    """
    for checksum in (Checksum.CRC64NVME, Checksum.MD5, Checksum.NONE):
        found = _PartLook(canaries, TargetCapabilities(checksum=checksum)).facts()
        if found is not None:
            return found
    raise AssertionError("a target that takes no plain part has raised")


class _Leading(Enum):
    KEPT = "kept"
    STRIPPED = "stripped"
    REFUSED = "refused"


class _Look:
    """One look at the target, as if it had these capabilities."""

    def __init__(
        self, canaries: Canaries, supposed: TargetCapabilities, effort: Effort = QUICK
    ) -> None:
        self._canaries = canaries
        self._supposed = supposed
        self._effort = effort
        self._lists_parts = True
        self._target = canaries.target.with_capabilities(supposed)
        self._standing_key = canaries.base + "standing"
        """An object that is there when another write to it is tried."""
        self._parts_key = canaries.base + "parts"
        self._careful = self._target.with_capabilities(replace(supposed, if_absent=True))
        """The same target, written to only if nothing is there."""
        self._race = f"{canaries.base}race-{secrets.token_hex(4)}-"
        """Nobody has ever written below it: what a killed probe left would win every race."""
        self._standing = canaries.call(self._write_first)

    def facts(self) -> TargetFacts | None:
        """Return what is found; None if the target does not verify the supposed checksum.

        Without a checksum, it raises what a plain write raises.
        """
        begin = self._canaries.call
        provider = begin(partial(self._canaries.target.answered_as, self._canaries.base))
        checksum = begin(self._find_checksum)
        keeps = [begin(self._keeps_object), begin(self._keeps_upload), begin(self._put_is_atomic)]
        atomic_complete = begin(self._complete_is_atomic)
        matching = MatchingLook(
            self._canaries, self._target, self._standing, self._effort.match_races
        )
        names = begin(self._find_names)
        keeps_metadata = begin(self._keeps_metadata)
        keeps_tags = begin(self._keeps_tags)
        checked, kept, found = checksum.result(), all_results(keeps), names.result()
        if checked is None or found is None:
            return None
        known = known_name_rules(provider.result() or self._target.provider)
        return TargetFacts(
            capabilities=replace(
                checked,
                if_absent=all(kept),
                atomic_complete=all(kept) and atomic_complete.result(),
                if_match=matching.holds_for_writes(),
                if_match_delete=matching.holds_for_deletions(),
            ),
            name_rules=found.rules(known),
            provider=provider.result(),
            lists_parts=self._lists_parts,
            spoiled_names=found.spoiled(),
            keeps_metadata=keeps_metadata.result(),
            keeps_tags=keeps_tags.result(),
        )

    def _write_first(self) -> str | None:
        """Write the object that stands; return its ETag, None if the target refuses it.

        All other bodies wait for it: what a plain write raises is raised before anything else is
        tried, and SeaweedFS takes a second if many bodies are the first ones in a bucket.
        """
        write = partial(self._canaries.put, self._target, self._standing_key)
        if self._supposed.checksum is Checksum.NONE:
            try:
                return write()
            except TargetRefused as error:
                raise ConfigurationError(
                    f"{error.message}; correct storage_class, acl or encryption of the target"
                ) from error
        return next(iter(answers(write)), None)

    def _opened(self, target: PacedTarget, key: str) -> str:
        """Open an upload; return its id once bodies may be sent."""
        upload_id = self._canaries.open_upload(target, key)
        self._standing.result()
        return upload_id

    # -- checksums ---------------------------------------------------------------------------------

    def _find_checksum(self) -> TargetCapabilities | None:
        """Return the supposed capabilities, with what else holds, if the target has them.

        It verifies a checksum if it refuses a wrong one, for an object and for a part, and takes
        the right one.
        """
        supposed = self._supposed
        if supposed.checksum is Checksum.NONE:
            self._upload_plain()
            return supposed
        damaged = [
            self._canaries.call(partial(raises, DigestRefused, send))
            for send in (self._send_damaged, self._send_damaged_part)
        ]
        if supposed.checksum is Checksum.CRC64NVME:
            streams = self._canaries.call(lambda: self._takes_trailers(damaged))
            if all([*all_results(damaged), streams.result()]):
                return replace(supposed, checksum_in_trailer=True)
        verifies = all(all_results(damaged)) and self._standing.result() is not None
        return supposed if verifies and works(self._upload_plain) else None

    def _send_damaged(self) -> None:
        self._standing.result()
        self._canaries.send_damaged(self._target, self._parts_key, self._supposed.checksum)

    def _send_damaged_part(self) -> None:
        upload_id = self._opened(self._target, self._parts_key)
        self._canaries.send_damaged(
            self._target, self._parts_key, self._supposed.checksum, upload_id
        )

    def _takes_trailers(self, damaged: Sequence[BackgroundCall[object]]) -> bool:
        """Return True if a part may be followed by its checksum in a trailer.

        The target must state the CRC64NVME that it computed, or refuse a part whose trailer is
        wrong. A part with the right one must be stored. The upload is completed after all other
        parts of its key were sent: Azure would keep those that come later.
        """
        canaries, key = self._canaries, self._parts_key
        target = self._target.with_capabilities(replace(self._supposed, checksum_in_trailer=True))

        def send_damaged() -> int | None:
            return canaries.send_damaged_stream(target, key, self._opened(target, key))

        def upload() -> int | None:
            upload_id = self._opened(target, key)
            return canaries.finish_upload(
                target, key, upload_id, streamed=True, after=[*damaged, wrong]
            )

        # Any refusal of the damaged part counts, since it differs from the good one only in its
        # checksum.
        wrong = canaries.call(lambda: answers(send_damaged))
        into = memoryview(bytearray(len(BODY)))
        return (
            answers(upload) == [CRC]
            and wrong.result() in ([], [CRC])
            and works(lambda: target.read_object(key, into=into, etag=None))
            and into == BODY
        )

    def _upload_plain(self) -> None:
        target, key = self._target, self._parts_key
        self._canaries.finish_upload(target, key, self._opened(target, key))

    # -- If-None-Match -----------------------------------------------------------------------------

    def _keeps_object(self) -> bool:
        """Return True if a PUT does not replace an existing object."""
        return self._standing.result() is not None and raises(
            TargetConflict, lambda: self._canaries.put(self._careful, self._standing_key)
        )

    def _keeps_upload(self) -> bool:
        """Return True if a completed upload does not replace an existing object."""
        canaries, key, target = self._canaries, self._standing_key, self._careful

        def upload(lost: int = 0) -> None:
            try:
                # The part is sent once the object stands: Azure's PUT drops the blocks before it.
                upload_id = self._opened(target, key)
                part = canaries.send_part(target, key, upload_id)
                self._lists_parts = canaries.is_listed(target, key, upload_id, part)
                canaries.complete(target, key, upload_id, part)
            except UploadLost:
                # Beside another write, here the PUT of _keeps_object, Amazon completes no upload,
                # whatever stands there (409): that does not answer the question.
                if lost == LOST_UPLOADS:
                    raise
                upload(lost + 1)

        return raises(TargetConflict, upload)

    def _put_is_atomic(self) -> bool:
        """Return True if of several PUTs of one name at once no more than one succeeds."""
        if self._standing.result() is None:
            return False
        canaries, effort = self._canaries, self._effort
        names = [f"{self._race}put-{n}" for n in range(effort.put_races)]
        racers = [
            [canaries.call(partial(self._wins, key)) for _ in range(effort.put_racers)]
            for key in names
        ]
        return are_single_winners([all_results(one_name) for one_name in racers])

    def _wins(self, key: str) -> Lap:
        return lap(lambda: self._canaries.put(self._careful, key))

    def _complete_is_atomic(self) -> bool:
        """Return True if of several uploads of one name, completed at once, one alone succeeds."""
        canaries, target, effort = self._canaries, self._careful, self._effort
        starts = [threading.Barrier(effort.upload_racers) for _ in range(effort.upload_races)]

        def upload(key: str, start: threading.Barrier) -> None:
            try:
                upload_id = self._opened(target, key)
                part = canaries.send_part(target, key, upload_id)
                start.wait(LAST_RACER_SECONDS)
            except BaseException:
                start.abort()  # without this one nobody races, and none may wait for it
                raise
            canaries.complete(target, key, upload_id, part)

        def wins(key: str, start: threading.Barrier) -> Lap:
            try:
                return lap(partial(upload, key, start))
            except threading.BrokenBarrierError:
                return Lap.NOT_RUN

        racers = [
            [
                canaries.call(partial(wins, f"{self._race}upload-{n}", start))
                for _ in range(effort.upload_racers)
            ]
            for n, start in enumerate(starts)
        ]
        return are_single_winners([all_results(one_name) for one_name in racers])

    # -- tags and metadata -------------------------------------------------------------------------

    def _keeps_tags(self) -> bool | None:
        """Return whether tags come back as they were written; None if that cannot be told.

        A write with tags that is refused says so while the job runs too: a plan asks about those
        that are dropped without a word.
        """
        canaries, target, key = self._canaries, self._target, self._canaries.base + "tagged"
        if self._standing.result() is None:
            return None
        if not works(lambda: canaries.put(target, key, tags=TAGS)):
            return False if self._effort.asks_more else None
        try:
            return target.read_tags(key) == TAGS
        except (StoreUnavailable, Throttled, ClockSkewed, AccessDenied):
            return None
        except NoriaError:
            return False  # it does not know the request, or answers with the object

    def _keeps_metadata(self) -> bool | None:
        """Return whether metadata comes back as it was written, if that is asked."""
        if not self._effort.asks_more or self._standing.result() is None:
            return None
        return self._canaries.metadata_of(self._target, self._standing_key) == METADATA

    # -- names -------------------------------------------------------------------------------------

    def _find_names(self) -> _Names | None:
        """Return what the target did with odd names; None if it refuses plain ones."""
        if self._standing.result() is None:
            return None
        canaries, provider = self._canaries, self._target.provider
        # Azurite 3.37 cannot list an object with such a name; Azure's own rule is known.
        names = _NAMES if provider == "azure" else (*_NAMES, CONTROL)
        if self._effort.asks_more:
            names = (*names, *ODD_NAMES.values(), _OTHER_CASE)
        calls = {name: canaries.call(partial(self._takes, canaries.base + name)) for name in names}
        both = [
            canaries.call(partial(self._takes_in_order, names)) for names in (_BOTH, _BOTH_REVERSED)
        ]
        whole = {
            name: canaries.call(partial(self._is_whole, canaries.base + name, body))
            for name, body in (("body/", BODY), ("stub/", _NOTHING))
        }
        leading = canaries.call(self._leading_slash)
        taken = {name for name, call in calls.items() if call.result()}
        taken = taken.union(*all_results(both))
        bodies = all_results(whole.values())
        listed = {key.removeprefix(canaries.base) for key in canaries.listed()}
        return _Names(
            taken=frozenset(taken),
            listed=frozenset(listed),
            drops_directory_body=not all(bodies),
            leading=leading.result(),
            tells_control=CONTROL in names,
            asked_more=self._effort.asks_more,
        )

    def _takes_in_order(self, names: Sequence[str]) -> set[str]:
        return {name for name in names if self._takes(self._canaries.base + name)}

    def _takes(self, key: str, body: memoryview = BODY) -> bool:
        return works(lambda: self._canaries.put(self._target, key, body))

    def _is_whole(self, key: str, body: memoryview) -> bool:
        """Return True if an object of this name is stored as it was written."""
        return self._takes(key, body) and self._canaries.is_own(self._target.head(key), len(body))

    def _leading_slash(self) -> _Leading:
        """Return what the target does with `/x`.

        That is seen only at the container's root: below a prefix, no name begins with a slash.
        """
        name = self._canaries.at_root
        if name is None:
            return _Leading.KEPT
        if not self._takes("/" + name):
            return _Leading.REFUSED
        if self._target.head(name) is None:
            return _Leading.KEPT
        return _Leading.STRIPPED


_BOTH: Final = ("both", "both/x")
"""Written in this order: the second is below the first."""
_BOTH_REVERSED: Final = ("turn/x", "turn")
"""The other order: stores that make a folder of the first may refuse the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What a target did with the names of the canaries."""

    taken: frozenset[str]
    """Those whose PUT succeeded, without `body/` and `stub/`."""
    listed: frozenset[str]
    drops_directory_body: bool
    leading: _Leading
    tells_control: bool
    asked_more: bool

    def rules(self, known: NameRules) -> NameRules:
        """Return the known rules, corrected by what the target did."""
        kept = self.taken & self.listed
        return replace(
            known,
            merges_slashes="empty/x" in self.listed,
            refuses_empty_segments=(
                "empty//x" not in self.taken or self.leading is _Leading.REFUSED
            ),
            strips_leading_slash=self.leading is _Leading.STRIPPED,
            strips_trailing_slash="body" in self.listed,
            backslash_is_slash="back\\x" not in kept,
            drops_directory_body=self.drops_directory_body,
            refuses_dot_segments=not {"dot/./x", "dots/../x"} <= kept,
            refuses_trailing_dots="trail./x." not in kept,
            refuses_control_characters=(
                CONTROL not in kept if self.tells_control else known.refuses_control_characters
            ),
            file_and_directory_conflict=not kept.issuperset((*_BOTH, *_BOTH_REVERSED)),
            max_segment_bytes=None if LONG_SEGMENT in kept else len(LONG_SEGMENT) - 1,
        )

    def spoiled(self) -> tuple[str, ...]:
        """Return what is odd about those of ODD_NAMES that were not kept."""
        if not self.asked_more:
            return ()
        kept = self.taken & self.listed
        spoiled = {what for what, name in ODD_NAMES.items() if name not in kept}
        if _OTHER_CASE not in kept:
            spoiled.add("upper and lower case")
        return tuple(sorted(spoiled))


class _PartLook:
    """One look at the target by parts of uploads alone, as if it had these capabilities."""

    def __init__(self, canaries: Canaries, supposed: TargetCapabilities) -> None:
        self._canaries = canaries
        self._supposed = supposed
        self._target = canaries.target.with_capabilities(supposed)
        self._key = canaries.base + "parts"

    def facts(self) -> TargetFacts | None:
        """Return what is found; None if the target does not verify the supposed checksum.

        Without a checksum, it raises what a plain upload raises.
        """
        canaries, target, key = self._canaries, self._target, self._key
        provider = canaries.call(partial(target.answered_as, canaries.base))
        upload_id = canaries.open_upload(target, key)
        checksum = self._supposed.checksum
        if checksum is not Checksum.NONE:
            refused = raises(
                DigestRefused, partial(canaries.send_damaged, target, key, checksum, upload_id)
            )
            if not (refused and works(partial(canaries.send_part, target, key, upload_id))):
                return None
        part = canaries.send_part(target, key, upload_id)
        lists_parts = canaries.is_listed(target, key, upload_id, part)
        trailers = checksum is Checksum.CRC64NVME and lists_parts and self._takes_trailers()
        return TargetFacts(
            capabilities=replace(self._supposed, checksum_in_trailer=trailers),
            name_rules=known_name_rules(provider.result() or target.provider),
            provider=provider.result(),
            lists_parts=lists_parts,
            wrote_objects=False,
        )

    def _takes_trailers(self) -> bool:
        """As _Look._takes_trailers(), but the list of parts tells what was stored."""
        canaries, key = self._canaries, self._key
        target = self._target.with_capabilities(replace(self._supposed, checksum_in_trailer=True))
        upload_id = canaries.open_upload(target, key)
        wrong = answers(partial(canaries.send_damaged_stream, target, key, upload_id))
        right = answers(partial(canaries.send_part, target, key, upload_id, streamed=True))
        return (
            wrong in ([], [CRC])
            and [part.crc64nvme for part in right] == [CRC]
            and canaries.is_listed(target, key, upload_id, right[0])
        )
