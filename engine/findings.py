"""What a look at an end means for a job, in words: pure functions from facts to findings.

A finding is `ok`; or a `note`, with which a job runs all the same; or `lacks`, with which it cannot
run as it should. Notes and lacks say what to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from noria.manifests.plan.providers import NameRules, limits_for
from noria.workers.stores.inspection import (
    Granted,
    Protection,
    Service,
    SourceRights,
    TargetRights,
)
from noria.workers.stores.probe import TargetFacts
from noria.workers.stores.protocol import Checksum

CLOCK_NOTE_SECONDS: Final = 5.0
"""A clock that is set over the network is closer than that, however far the store is."""
CLOCK_LACKS_SECONDS: Final = 60.0
"""As plan refuses it: stores refuse signatures from 15 minutes on."""
ENDS_SOON_SECONDS: Final = 24 * 3600.0
ROOM_LOW_BYTES: Final = 10 * 2**30
RIGHTS: Final = "RIGHTS.md has the least rights as ready policies"


class Mark(StrEnum):
    OK = "ok"
    NOTE = "note"
    LACKS = "lacks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a diagnosis."""

    topic: str
    """A short constant, for programs."""
    mark: Mark
    says: str
    advice: str = ""
    """What to do; empty if there is nothing to do."""


def _ok(topic: str, says: str) -> Finding:
    return Finding(topic=topic, mark=Mark.OK, says=says)


def _note(topic: str, says: str, advice: str) -> Finding:
    return Finding(topic=topic, mark=Mark.NOTE, says=says, advice=advice)


def lacking(topic: str, says: str, advice: str = "") -> Finding:
    """A finding with which a job cannot run."""
    return Finding(topic=topic, mark=Mark.LACKS, says=says, advice=advice)


# -- the service and the way to it -----------------------------------------------------------------


def service_findings(service: Service, now: float) -> Iterator[Finding]:
    """`now` is Unix time."""
    yield _way(service)
    if service.clock_seconds is not None:
        yield _clock(service.clock_seconds)
    yield _credentials(service, now)
    stated = service.region_stated
    if stated is not None and stated != service.region:
        yield _note(
            "region",
            f"requests are signed for {service.region}, and the bucket is in {stated}",
            f'set region = "{stated}" at this end, or AWS_REGION',
        )
    elif service.region is not None:
        says = " as the service states it" if stated else ", which the service does not confirm"
        yield _ok("region", f"{service.region},{says}" if stated else f"{service.region}{says}")
    if service.free_bytes is not None and service.free_bytes < ROOM_LOW_BYTES:
        room = service.free_bytes / 2**30
        yield _note("room", f"{room:.1f} GiB are free", "see that what is to be moved fits")


def _way(service: Service) -> Finding:
    url = urlsplit(service.endpoint)
    if not url.scheme:
        return _ok("reach", f"the folder {service.endpoint}")
    if service.encryption is not None:
        return _ok("reach", f"{service.endpoint}, {service.encryption}")
    if url.hostname in ("127.0.0.1", "::1", "localhost"):
        return _ok("reach", f"{service.endpoint}, this machine")
    return _note(
        "reach",
        f"{service.endpoint} is spoken to without TLS: names and bytes can be read on the way",
        "use an https endpoint",
    )


def _clock(ahead_seconds: float) -> Finding:
    # A Date has whole seconds, so that a clock that is right seems up to a second ahead.
    off = abs(ahead_seconds)
    says = f"this machine's clock is {ahead_seconds:+.0f} s off the service's"
    advice = "set it over the network (NTP)"
    if off > CLOCK_LACKS_SECONDS:
        return lacking("clock", says, advice)
    if off > CLOCK_NOTE_SECONDS:
        return _note("clock", says, advice)
    return _ok("clock", "this machine's clock is the service's")


def _credentials(service: Service, now: float) -> Finding:
    kind, end = service.credentials, service.credentials_end
    if service.credentials_renew and kind != "the account's key":
        return _ok("credentials", f"{kind}, renewed before it ends")
    if kind == "the account's key":
        return _note(
            "credentials",
            "the account's key, with which anything may be done in the whole account",
            f"use an identity, or a SAS for this container; {RIGHTS}",
        )
    if end is None:
        unknown = kind.startswith("temporary")
        if unknown:
            return _note(
                "credentials",
                f"{kind}, and nothing says when it ends",
                "see that it lasts as long as the job, or use a profile that renews it",
            )
        return _ok("credentials", f"{kind}, without an end")
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end))
    if end <= now:
        return lacking("credentials", f"{kind}, which ended at {when}", "renew it")
    if end - now < ENDS_SOON_SECONDS:
        return _note(
            "credentials",
            f"{kind} until {when}",
            "renew it if the job takes longer: it then stops, and resumes with new ones",
        )
    return _ok("credentials", f"{kind} until {when}")


# -- rights ----------------------------------------------------------------------------------------


def source_findings(
    rights: SourceRights, protection: Protection, *, provider: str, must_list: bool
) -> Iterator[Finding]:
    """`must_list` is False if the job names what it reads."""
    if rights.lists is Granted.YES:
        yield _ok("list", "may be listed below the prefix")
    elif must_list:
        yield lacking("list", "may not be listed below the prefix", f"grant that; {RIGHTS}")
    else:
        yield _ok("list", "may not be listed, which this job does not need")
    if rights.reads is Granted.YES:
        yield _ok("read", "objects may be read")
    elif rights.reads is Granted.NO:
        yield lacking("read", "objects may not be read", f"grant that; {RIGHTS}")
    else:
        yield _note("read", "nothing was found that could be read", "check the prefix")
    if rights.reads is Granted.YES:
        yield _source_tags(rights.reads_tags)
    if provider != "local":  # a file's owner may write it, and that is nobody's doing
        yield from _too_many(rights, provider)
    if protection.versioned:
        yield _note(
            "versions",
            "the bucket keeps versions, and only current ones are moved",
            "keep the source for as long as old versions may be asked for",
        )


def _source_tags(reads_tags: Granted) -> Finding:
    if reads_tags is Granted.YES:
        return _ok("tags", "tags may be read")
    if reads_tags is Granted.NO:
        return _note(
            "tags",
            "tags may not be read, and objects that have some would lose them",
            f"grant it if tags matter; {RIGHTS}",
        )
    return _note("tags", "the store does not answer about tags", "expect none to be moved")


def _too_many(rights: SourceRights, provider: str) -> Iterator[Finding]:
    for topic, may, what in (
        ("may-write", rights.writes, "write"),
        ("may-delete", rights.deletes, "delete"),
    ):
        if may is Granted.YES:
            yield _note(
                topic,
                f"these credentials may {what} at the source, which a move never does",
                f"take others for the time of the move; {RIGHTS}",
            )
        elif may is Granted.NO:
            yield _ok(topic, f"these credentials may not {what} here")
        else:
            yield _ok(
                topic, f"whether they may {what} cannot be found out without leaving something"
            )
    yield from _outside(rights.lists_outside, provider)


def _outside(lists_outside: Granted, provider: str) -> Iterator[Finding]:
    if lists_outside is Granted.NO:
        yield _ok("outside", "nothing outside the prefix may be listed")
    elif lists_outside is Granted.YES and provider not in ("azure", "local"):
        yield _note(
            "outside",
            "names outside the prefix may be listed, too",
            f"a condition on s3:prefix prevents it; {RIGHTS}",
        )


# -- the target ------------------------------------------------------------------------------------


def target_findings(
    facts: TargetFacts, rights: TargetRights, protection: Protection, *, provider: str
) -> Iterator[Finding]:
    """What the probe found, worst losses first."""
    if facts.wrote_objects:
        yield _ok("write", "objects and uploads can be written and read back")
    yield from _kept(protection, wrote_objects=facts.wrote_objects)
    yield _checksum(facts.capabilities.checksum)
    yield from _conditions(facts)
    yield from _replacing(facts)
    if facts.capabilities.checksum is Checksum.CRC64NVME:
        yield _trailers(facts.capabilities.checksum_in_trailer)
    if facts.lists_parts:
        yield _ok("parts", "the parts of an upload can be listed")
    else:
        yield _note(
            "parts",
            "the parts of an upload cannot be listed",
            "none needed: after a kill, parts that no journal holds are sent again",
        )
    yield from _upload_rights(rights)
    yield from _outside(rights.lists_outside, provider)
    yield from _names(facts)
    yield from _attributes(facts)
    yield _limits(provider)


def _kept(protection: Protection, *, wrote_objects: bool) -> Iterator[Finding]:
    if protection.retention is not None:
        yield _note(
            "retention",
            f"what is written stays ({protection.retention}), so that no object was tried here",
            "none needed; conditions, names and attributes are taken for bad as they may be: to "
            "have them tried, switch the default retention on after the move",
        )
    elif not wrote_objects:
        yield _note(
            "retention",
            "what is written cannot be deleted again, so that one object alone was tried here",
            "none needed if the right to delete is left out on purpose; conditions, names and "
            "attributes are taken for bad as they may be",
        )
    elif protection.locks:
        yield _ok("retention", "objects can be locked, and by default are not")
    elif protection.locks is None:
        yield _ok("retention", "canaries could be deleted again")
    if protection.versioned:
        yield _ok("versions", "kept; canaries are deleted by their version's id")


def _checksum(checksum: Checksum) -> Finding:
    if checksum is Checksum.CRC64NVME:
        return _ok("checksum", "a wrong CRC64NVME is refused: receipts say `ingested` or better")
    if checksum is Checksum.MD5:
        return _ok("checksum", "a wrong Content-MD5 is refused: receipts say `ingested`")
    return _note(
        "checksum",
        "no checksum is verified: receipts say `counted`",
        "run `noria verify` after the move, which reads everything back",
    )


def _conditions(facts: TargetFacts) -> Iterator[Finding]:
    found = facts.capabilities
    if not facts.wrote_objects:
        return
    if not found.if_absent:
        yield _note(
            "condition",
            "If-None-Match is not honoured: what another program writes during the move can be "
            "replaced",
            "let nobody else write below the prefix meanwhile",
        )
    elif not found.atomic_complete:
        yield _note(
            "condition",
            "of two uploads of one name that are completed at once, both succeed (by a race); of "
            "two PUTs one",
            "none needed: each upload is looked for first; let nobody else write there meanwhile",
        )
    else:
        yield _ok("condition", "of several writes of one name at once, one succeeds (by a race)")


def _replacing(facts: TargetFacts) -> Iterator[Finding]:
    """What a later pass can rely on when it replaces or deletes what an earlier one wrote."""
    found = facts.capabilities
    if not facts.wrote_objects:
        return
    looked_at = [
        what
        for what, honoured in (
            ("a PUT", found.if_match),
            ("an upload", found.if_match_complete),
            ("a deletion", found.if_match_delete),
        )
        if not honoured
    ]
    if not looked_at:
        yield _ok(
            "replace", "If-Match is honoured: a later pass replaces and deletes only what it left"
        )
        return
    yield _note(
        "replace",
        f"If-Match does not hold for {' and '.join(looked_at)}: a later pass looks right before "
        "each, and would not see what is written between the two",
        "let nobody else write below the prefix during a pass",
    )


def _trailers(taken: bool) -> Finding:
    if taken:
        return _ok("trailer", "a checksum behind the bytes is verified: parts are streamed")
    return _note(
        "trailer",
        "a checksum behind the bytes is not verified, so that each part is held in memory",
        "none needed; give workers bytes_in_flight for it",
    )


def _upload_rights(rights: TargetRights) -> Iterator[Finding]:
    wanted = (
        (rights.lists_uploads, "uploads-list", "list the uploads that are open"),
        (rights.aborts_uploads, "uploads-abort", "abort an upload"),
    )
    for granted, topic, what in wanted:
        if granted is Granted.NO:
            yield lacking(
                topic,
                f"these credentials may not {what}: what a killed worker leaves would stay",
                f"grant it; {RIGHTS}",
            )
        else:
            yield _ok(topic, f"these credentials may {what}")


_RULES: Final = {
    "merges_slashes": "a//b becomes a/b",
    "strips_leading_slash": "/a becomes a",
    "strips_trailing_slash": "a/ becomes a",
    "backslash_is_slash": "a\\b becomes a/b",
    "drops_directory_body": "a/ loses its bytes",
    "refuses_empty_segments": "a//b is refused",
    "refuses_dot_segments": "a/./b and a/../b are refused",
    "refuses_trailing_dots": "names that end with a dot are refused",
    "refuses_control_characters": "control characters are refused",
    "file_and_directory_conflict": "a and a/b cannot be there together",
}


def changed_names(rules: NameRules) -> list[str]:
    """What becomes of odd names, in words."""
    said = [words for rule, words in _RULES.items() if getattr(rules, rule)]
    if rules.max_segment_bytes is not None:
        said.append(f"more than {rules.max_segment_bytes} bytes between slashes are refused")
    if rules.reserved_segments:
        said.append(f"reserved: {', '.join(rules.reserved_segments)}")
    return said


def _names(facts: TargetFacts) -> Iterator[Finding]:
    changed = changed_names(facts.name_rules)
    how = "as its kind is known to do" if not facts.wrote_objects else "as it was tried"
    if changed:
        yield _note(
            "names",
            f"some names cannot arrive as they are, {how}: {'; '.join(changed)}",
            'the plan counts them; [plan] names = "escape" maps them',
        )
    elif facts.wrote_objects:
        yield _ok("names", "odd names arrive as they are, also a after a/b, and a/b after a")
    if facts.spoiled_names:
        yield lacking(
            "odd-names",
            f"not kept: {', '.join(facts.spoiled_names)}",
            "move objects with such names elsewhere: no plan maps them",
        )
    elif facts.wrote_objects:
        yield _ok("odd-names", "spaces, %, letters beyond ASCII and long names are kept")


def _attributes(facts: TargetFacts) -> Iterator[Finding]:
    for kept, topic, what in (
        (facts.keeps_metadata, "metadata", "user metadata"),
        (facts.keeps_tags, "tags", "tags"),
    ):
        if kept:
            yield _ok(topic, f"{what} come back as they were written")
        elif kept is False:
            yield _note(
                topic,
                f"{what} do not come back, or may not be written or read",
                f"objects that have some will fail or lose them; {RIGHTS}",
            )


def _limits(provider: str) -> Finding:
    limits = limits_for(provider)
    known = provider if provider != "s3" else "an unknown S3: the narrowest limits are taken"
    return _ok(
        "limits",
        f"of {known}: {_size(limits.max_object_bytes)} an object, {limits.max_parts:,} parts of up "
        f"to {_size(limits.max_part_bytes)}",
    )


def _size(count: int) -> str:
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}".replace(".0 ", " ")
    return f"{count:,} B"
