"""Find out what a target really does, before a job is planned, by canaries that are removed again.

Servers that speak S3 differ in what they verify and in how they treat odd names, and announce none
of it. So a checksum counts only if a wrong one was refused, If-None-Match only if it was honoured
for a PUT and for a completed upload, and a name only if a listing returns it unchanged. A probe
takes about forty requests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Final, TypeVar

from noria.manifests.errors import (
    ClockSkewed,
    DigestRefused,
    NoriaError,
    OutcomeUnknown,
    StoreUnavailable,
    TargetConflict,
    Throttled,
)
from noria.manifests.model import Attributes, PartRecord
from noria.manifests.plan.providers import NameRules, known_name_rules
from noria.workers.digest import crc64nvme
from noria.workers.http.client import BodyWriter, Send
from noria.workers.stores.listing import list_objects
from noria.workers.stores.paced import PacedTarget, RetryPolicy
from noria.workers.stores.protocol import (
    NOTHING_KNOWN,
    Checksum,
    TargetCapabilities,
    TargetStore,
    Written,
)

T = TypeVar("T")

POLICY: Final = RetryPolicy(tries=5, base_seconds=1.0, cap_seconds=4.0)
"""About five seconds in total: a person waits, and some servers answer 500 to names they refuse.

For the same reason a write of unknown outcome is sent only once more.
"""
LONG_SEGMENT: Final = "n" * 256
"""One byte more than file systems take (255 bytes), and stores built on them."""
CONTROL: Final = "control\x01\x1f\x7fx"
_NOTHING: Final = memoryview(b"")
_BODY: Final = memoryview(b"canary")
_CRC: Final = crc64nvme(_BODY)
_OTHER_CRC: Final = crc64nvme(b"damaged")
_ATTRIBUTES: Final = Attributes(metadata={"canary": "yes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """What the probe found out."""

    capabilities: TargetCapabilities
    name_rules: NameRules
    provider: str | None
    """A name in manifests.plan.providers, if the target's responses give it away."""


def probe_target(store: TargetStore, prefix: str, token: str) -> TargetFacts:
    """Probe the target with canaries below `prefix`.noria-probe-`token`/.

    Raises what a plain PUT or a plain upload raises, because then nothing can be moved there. A
    repeat with the same token removes the canaries that a killed probe left.
    """
    probe = _Probe(store, prefix, token)
    try:
        probe.clear()
        checked = probe.find_checksum()
        capabilities = replace(checked, if_absent=probe.honours_if_absent(checked))
        provider = store.answered_as()
        rules = probe.find_name_rules(checked, known_name_rules(provider or store.provider))
    finally:
        probe.clear()
    return TargetFacts(capabilities=capabilities, name_rules=rules, provider=provider)


class _Leading(Enum):
    KEPT = "kept"
    STRIPPED = "stripped"
    REFUSED = "refused"


class _Probe:
    """The canaries of one probe, with every name that was tried."""

    def __init__(self, store: TargetStore, prefix: str, token: str) -> None:
        self._store = store
        """The target without retries."""
        self._paced = PacedTarget(inner=store, policy=POLICY)
        """The target with retries, if it is busy or unavailable."""
        self._base = f"{prefix}.noria-probe-{token}/"
        self._at_root = None if prefix else f".noria-probe-{token}-slash"
        self._txid = f"probe.{token}"
        self._tried: set[str] = set()
        self._existing = f"{self._base}standing"
        """An object that is there when another write to it is tried."""

    def _suppose(self, capabilities: TargetCapabilities) -> None:
        """Write from now on as if the target had these capabilities."""
        self._store = self._store.with_capabilities(capabilities)
        self._paced = self._paced.with_capabilities(capabilities)

    def find_checksum(self) -> TargetCapabilities:
        """Find the best checksum that the target verifies, and whether it may be in a trailer.

        Verifies means: it accepts the right checksum and refuses a wrong one.
        """
        for checksum in (Checksum.CRC64NVME, Checksum.MD5):
            found = self._verifies(checksum)
            if found is not None:
                return found
        self._suppose(NOTHING_KNOWN)
        self._put(self._existing)
        self._upload(self._key("parts"))
        return NOTHING_KNOWN

    def _verifies(self, checksum: Checksum) -> TargetCapabilities | None:
        """Return the capabilities with this checksum; None if the target does not verify it."""
        parts = self._key("parts")
        in_head = TargetCapabilities(checksum=checksum)
        self._suppose(in_head)
        if not (
            _raises(DigestRefused, lambda: self._send_damaged(self._existing, checksum))
            and _raises(DigestRefused, lambda: self._send_damaged_part(parts, checksum))
            and _works(lambda: self._put(self._existing))
        ):
            return None
        if checksum is Checksum.CRC64NVME:
            in_trailer = replace(in_head, checksum_in_trailer=True)
            self._suppose(in_trailer)
            if self._takes_trailers(parts):
                return in_trailer
            self._suppose(in_head)
        return in_head if _works(lambda: self._upload(parts)) else None

    def _takes_trailers(self, key: str) -> bool:
        """Return True if a part may be followed by its checksum in a trailer.

        The target must state the CRC64NVME that it computed, or refuse a part whose trailer is
        wrong. A part with the right one must be stored.
        """
        into = memoryview(bytearray(len(_BODY)))
        # Any refusal of the damaged part counts, since it differs from the good one only in its
        # checksum.
        return (
            _answers(lambda: self._upload(key, streamed=True)) == [_CRC]
            and _answers(lambda: self._send_damaged_stream(key)) in ([], [_CRC])
            and _works(lambda: self._store.read_object(key, into=into, etag=None))
            and into == _BODY
        )

    def honours_if_absent(self, checked: TargetCapabilities) -> bool:
        """Return True if neither a PUT nor a completed upload replaces an existing object."""
        self._suppose(replace(checked, if_absent=True))
        return _raises(TargetConflict, lambda: self._put(self._existing)) and _raises(
            TargetConflict, lambda: self._upload(self._existing)
        )

    def find_name_rules(self, checked: TargetCapabilities, known: NameRules) -> NameRules:
        """Return the known rules, corrected by what the target did with the canaries."""
        self._suppose(checked)
        names = [
            "empty//x",
            "back\\x",
            "body/",
            "dot/./x",
            "dots/../x",
            "trail./x.",
            "both",
            "both/x",
            LONG_SEGMENT,
        ]
        # Azurite 3.37 cannot list an object with such a name; Azure's own rule is known.
        tells_control = self._store.provider != "azure"
        if tells_control:
            names.append(CONTROL)
        taken = {name for name in names if self._takes(self._base + name)}
        stub_is_whole = self._takes(self._base + "stub/", _NOTHING) and self._is_whole("stub/", 0)
        listed = {key.removeprefix(self._base) for key in self._listed(self._base)}
        kept = taken & listed
        leading = self._leading_slash()
        return replace(
            known,
            merges_slashes="empty/x" in listed,
            refuses_empty_segments="empty//x" not in taken or leading is _Leading.REFUSED,
            strips_leading_slash=leading is _Leading.STRIPPED,
            strips_trailing_slash="body" in listed,
            backslash_is_slash="back\\x" not in kept,
            drops_directory_body=not (self._is_whole("body/", len(_BODY)) and stub_is_whole),
            refuses_dot_segments=not {"dot/./x", "dots/../x"} <= kept,
            refuses_trailing_dots="trail./x." not in kept,
            refuses_control_characters=(
                CONTROL not in kept if tells_control else known.refuses_control_characters
            ),
            file_and_directory_conflict=not {"both", "both/x"} <= kept,
            max_segment_bytes=None if LONG_SEGMENT in kept else len(LONG_SEGMENT) - 1,
        )

    def clear(self) -> None:
        """Remove every canary and upload, under its own name and that which the target gave it.

        Some targets make folders and list them only once they are empty, so the listing is repeated
        up to three times.
        """
        with contextlib.suppress(NoriaError):
            for upload in list(self._store.list_uploads(self._base)):
                self._store.abort_upload(upload.key, upload.upload_id)
        for _ in range(3):
            listed = self._listed(self._base)
            for key in sorted(listed | self._tried, reverse=True):
                with contextlib.suppress(NoriaError):
                    self._store.delete_object(key)
            if not listed:
                break
        self._tried.clear()

    def _takes(self, key: str, body: memoryview = _BODY) -> bool:
        taken = _works(lambda: self._put(key, body))
        if taken:
            self._tried.add(key)
        return taken

    def _key(self, name: str) -> str:
        key = self._base + name
        self._tried.add(key)
        return key

    def _put(self, key: str, body: memoryview = _BODY) -> None:
        put = partial(
            self._paced.put_object,
            key,
            body,
            attributes=_ATTRIBUTES,
            txid=self._txid,
            crc64nvme=crc64nvme(body),
        )
        try:
            put()
        except OutcomeUnknown:
            put()

    def _send_damaged(self, key: str, checksum: Checksum) -> None:
        self._paced.send_damaged(key, checksum)

    def _send_damaged_part(self, key: str, checksum: Checksum) -> None:
        with self._dropped(key) as upload_id:
            self._paced.send_damaged(key, checksum, upload_id)

    def _send_damaged_stream(self, key: str) -> int | None:
        """Stream the canary as a part with a wrong checksum; return the one that is answered."""
        with self._dropped(key) as upload_id:
            return self._put_part(key, upload_id, _write_body, _OTHER_CRC).crc64nvme

    def _put_part(
        self, key: str, upload_id: str, body: memoryview | BodyWriter, crc64nvme: int
    ) -> Written:
        return self._paced.put_part(
            key, upload_id, 1, body, size=len(_BODY), crc64nvme=lambda: crc64nvme
        )

    def _upload(self, key: str, *, streamed: bool = False) -> int | None:
        """Upload a canary in one part; return the checksum in the response to that part."""
        size = len(_BODY)
        with self._opened(key) as upload_id:
            written = self._put_part(key, upload_id, _write_body if streamed else _BODY, _CRC)
            part = PartRecord(number=1, size=size, etag=written.etag, crc64nvme=_CRC, chunks=b"")
            complete = partial(
                self._paced.complete_upload,
                key,
                upload_id,
                [part],
                size=size,
                crc64nvme=_CRC,
                attributes=_ATTRIBUTES,
                txid=self._txid,
            )
            try:
                complete()
            except OutcomeUnknown:
                complete()
        return written.crc64nvme

    @contextmanager
    def _opened(self, key: str) -> Iterator[str]:
        """Open an upload for the block to complete; abort it if the block raises."""
        upload_id = self._paced.create_upload(
            key, attributes=_ATTRIBUTES, txid=self._txid, size=len(_BODY)
        )
        try:
            yield upload_id
        except BaseException:  # Ctrl-C too: nobody would find a canary's upload later
            with contextlib.suppress(NoriaError):
                self._store.abort_upload(key, upload_id)
            raise

    @contextmanager
    def _dropped(self, key: str) -> Iterator[str]:
        """Open an upload for the block, and abort it afterwards."""
        with self._opened(key) as upload_id:
            yield upload_id
        self._paced.abort_upload(key, upload_id)

    def _is_whole(self, name: str, size: int) -> bool:
        """Return True if a canary has the size and the transfer id it was written with."""
        head = self._paced.head(self._base + name)
        return head is not None and (head.size, head.txid) == (size, self._txid)

    def _leading_slash(self) -> _Leading:
        """Return what the target does with `/x`.

        That is seen only at the container's root: below a prefix, no name begins with a slash.
        """
        name = self._at_root
        if name is None:
            return _Leading.KEPT
        if not self._takes("/" + name):
            return _Leading.REFUSED
        self._tried.add(name)
        if self._paced.head(name) is None:
            return _Leading.KEPT
        return _Leading.STRIPPED

    def _listed(self, prefix: str) -> set[str]:
        batches = list_objects(self._store, prefix, streams=1)
        return {key for batch in batches for key in batch.column("key").to_pylist()}


def _works(call: Callable[[], object]) -> bool:
    """Return False if the target refuses. Errors that say nothing about its rules propagate."""
    try:
        call()
    except (StoreUnavailable, Throttled, ClockSkewed):
        raise
    except NoriaError:
        return False
    return True


def _answers(call: Callable[[], T]) -> list[T]:
    """Return the result in a list of one; an empty list if the target refuses."""
    responses: list[T] = []
    _works(lambda: responses.append(call()))
    return responses


def _raises(kind: type[NoriaError], call: Callable[[], object]) -> bool:
    """Return True if the target refuses with exactly this error."""
    try:
        call()
    except (StoreUnavailable, Throttled, ClockSkewed):
        raise
    except NoriaError as error:
        return isinstance(error, kind)
    return False


def _write_body(send: Send) -> None:
    send(_BODY[:2])
    send(_BODY[2:])
