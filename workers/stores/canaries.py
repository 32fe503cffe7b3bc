"""Canaries: the objects and uploads by which the probe tries a target, and how they are removed.

All are below `PREFIX.noria-probe-TOKEN/`, but for one name, which is tried at the container's root.
Whoever knows prefix and token can find and remove them, also after the process that wrote them was
killed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final, TypeVar

from noria.manifests.errors import NoriaError, OutcomeUnknown, StoreUnavailable, Throttled
from noria.manifests.model import Attributes, PartRecord
from noria.workers.http.client import BodyWriter, Send
from noria.workers.stores.background import BackgroundCall, all_results, wait_for_all
from noria.workers.stores.listing import list_objects
from noria.workers.stores.paced import PacedTarget, RetryPolicy, Stopped
from noria.workers.stores.protocol import Checksum, ObjectHead, TargetStore, Written

T = TypeVar("T")

POLICY: Final = RetryPolicy(tries=5, throttled_seconds=30.0, base_seconds=1.0, cap_seconds=4.0)
"""About five seconds in total: a person waits, and some servers answer 500 to names they refuse.
A request that is throttled is given longer: several writes to one name wait for each other at
stores that take one a second.

For the same reason a write of unknown outcome is sent only once more.
"""
REMOVAL_ROUNDS: Final = 3
"""Some targets make folders and list them only once they are empty, so the listing is repeated."""
LEAVE_SECONDS: Final = 2.0
"""How long requests under way are waited for if the probe is interrupted."""

BODY: Final = memoryview(b"canary")
CRC: Final = 0x471B1E7B88E9449F
"""CRC64NVME of BODY, as a number: to load what computes it takes a twentieth of a second."""
OTHER_BODY: Final = memoryview(b"another")
"""What a canary is to replace: other bytes, so that their ETag is another one as well."""
_OTHER_CRC: Final = 0xCCD29F2BC4EDE771
"""CRC64NVME of OTHER_BODY; that of no bytes is 0."""
NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})
METADATA: Final = {"canary": "yes"}
_ATTRIBUTES: Final = Attributes(metadata=METADATA)


CANARY_NAME: Final = r"/?\.noria-probe-[0-9a-f]{12}(/.*|-slash)"
"""A regular expression for the whole name of any job's canary below its prefix."""
CANARY_BYTES: Final = 7
"""No canary is larger: what is, is somebody's object, whatever its name."""


def canary_prefixes(prefix: str, token: str) -> tuple[str, ...]:
    """With what the names of all canaries begin, as the target may list them."""
    base = f"{prefix}.noria-probe-{token}/"
    at_root = f".noria-probe-{token}-slash"
    return (base,) if prefix else (base, at_root, "/" + at_root)


class Canaries:
    """The canaries of one probe. May be used from many threads at once."""

    def __init__(self, store: TargetStore, prefix: str, token: str) -> None:
        """`store` is a target without retries, and `prefix` the job's."""
        self._stopping = threading.Event()
        self.target = PacedTarget(inner=store, policy=POLICY, stopping=self._stopping)
        self._prefixes = canary_prefixes(prefix, token)
        self.base = self._prefixes[0]
        self.at_root = None if prefix else self._prefixes[1]
        self.token = token
        self._txid = f"probe.{token}"
        self._written: set[str] = set()
        """Names whose write succeeded; the target may have given them others."""
        self._versions: set[tuple[str, str]] = set()
        """Names and ids of what was written, if the target keeps versions."""
        self._began = False
        """True once this object has written: what it has not is of a probe that was killed."""
        self._listed: set[str] = set()
        self._open: set[tuple[str, str]] = set()
        self.left: tuple[str, ...] = ()
        """Names of what the last remove() could not, sorted; an upload's more than once."""
        self._removing = False
        self._calls: list[BackgroundCall[object]] = []

    def call(self, call: Callable[[], T]) -> BackgroundCall[T]:
        """Begin a call that writes canaries or looks at them."""
        begun = BackgroundCall(call, "probe")
        self._calls.append(begun)
        return begun

    # -- writing and looking -----------------------------------------------------------------------

    def put(
        self,
        target: PacedTarget,
        key: str,
        body: memoryview = BODY,
        tags: Mapping[str, str] = NO_TAGS,
        replaces: str | None = None,
    ) -> str:
        """Write an object of these bytes: BODY, OTHER_BODY, or none. Return its ETag."""
        self._go_on()
        crc64nvme = (_OTHER_CRC if body == OTHER_BODY else CRC) if body else 0
        put = partial(
            target.put_object,
            key,
            body,
            attributes=replace(_ATTRIBUTES, tags=tags) if tags else _ATTRIBUTES,
            txid=self._txid,
            crc64nvme=crc64nvme,
            replaces=replaces,
        )
        try:
            written = put()
        except OutcomeUnknown:
            written = put()
        self._note(key, written)
        return written.etag

    def delete(self, target: PacedTarget, key: str, etag: str) -> None:
        """Delete an object if it has this ETag. A marker that this leaves is removed as well."""
        self._go_on()
        deleted = target.delete_object(key, etag=etag)
        if deleted is not None and deleted.version_id is not None:
            self._versions.add((key, deleted.version_id))

    def send_damaged(
        self, target: PacedTarget, key: str, checksum: Checksum, upload_id: str | None = None
    ) -> None:
        """Send bytes under another checksum than theirs, as an object or as a part."""
        self._go_on()
        target.send_damaged(key, checksum, upload_id)
        if upload_id is None:
            self._written.add(key)

    def send_damaged_stream(self, target: PacedTarget, key: str, upload_id: str) -> int | None:
        """Stream the canary as a part with a wrong checksum; return the one that is answered."""
        self._go_on()
        return target.put_part(
            key, upload_id, 1, _write_body, size=len(BODY), crc64nvme=lambda: _OTHER_CRC
        ).crc64nvme

    def open_upload(self, target: PacedTarget, key: str) -> str:
        self._go_on()
        upload_id = target.create_upload(
            key, attributes=_ATTRIBUTES, txid=self._txid, size=len(BODY)
        )
        self._open.add((key, upload_id))
        return upload_id

    def finish_upload(
        self,
        target: PacedTarget,
        key: str,
        upload_id: str,
        *,
        streamed: bool = False,
        after: Iterable[BackgroundCall[object]] = (),
    ) -> int | None:
        """Send the canary as one part, wait for the calls `after`, complete the upload.

        Return the checksum in the response to the part.
        """
        part = self.send_part(target, key, upload_id, streamed=streamed)
        all_results(after)
        self.complete(target, key, upload_id, part)
        return part.crc64nvme

    def send_part(
        self, target: PacedTarget, key: str, upload_id: str, *, streamed: bool = False
    ) -> Written:
        """Send the canary as the only part of an upload."""
        self._go_on()
        body: memoryview | BodyWriter = _write_body if streamed else BODY
        return target.put_part(key, upload_id, 1, body, size=len(BODY), crc64nvme=lambda: CRC)

    def complete(
        self,
        target: PacedTarget,
        key: str,
        upload_id: str,
        part: Written,
        replaces: str | None = None,
    ) -> None:
        """Complete an upload of one part."""
        self._go_on()
        size = len(BODY)
        complete = partial(
            target.complete_upload,
            key,
            upload_id,
            [PartRecord(number=1, size=size, etag=part.etag, crc64nvme=CRC, chunks=b"")],
            size=size,
            crc64nvme=CRC,
            attributes=_ATTRIBUTES,
            txid=self._txid,
            replaces=replaces,
        )
        try:
            written = complete()
        except OutcomeUnknown:
            written = complete()
        self._note(key, written)
        self._open.discard((key, upload_id))

    def is_own(self, head: ObjectHead | None, size: int) -> bool:
        """Return True if a canary has the size and the transfer id it was written with."""
        return head is not None and (head.size, head.txid) == (size, self._txid)

    def metadata_of(self, target: PacedTarget, key: str) -> Mapping[str, str] | None:
        """Return the metadata of a canary; None if it is missing."""
        head = target.head(key)
        return None if head is None else head.attributes.metadata

    def is_listed(self, target: PacedTarget, key: str, upload_id: str, part: Written) -> bool:
        """Return True if the target lists the only part of an upload as it was sent."""
        with contextlib.suppress(NoriaError):
            return target.list_parts(key, upload_id) == {1: (len(BODY), part.etag)}
        return False

    def listed(self) -> set[str]:
        """Return the canaries that the target lists now, under the names that it gave them."""
        found = all_results(self.call(partial(self._list, prefix)) for prefix in self._prefixes)
        self._listed = set().union(*found)
        return self._listed

    def can_go(self) -> bool:
        """Write one object and delete it again; return False if that is refused."""
        key = self.base + "first"
        self.put(self.target, key)
        versions = {version for version in self._versions if version[0] == key}
        try:
            if not versions or self.target.provider == "azure":  # as in _delete_one()
                self.target.delete_object(key)
            else:
                for version in versions:
                    self.target.delete_object(*version)
                self._versions -= versions
        except (StoreUnavailable, Throttled):
            raise
        except NoriaError:
            return False
        return True

    # -- removing ----------------------------------------------------------------------------------

    def are_there(self) -> bool:
        """Return True if an earlier probe has left an object or an upload."""
        uploads = self.call(self._list_uploads)
        return bool(self.listed()) or bool(uploads.result())

    def remove(self) -> int:
        """Remove all objects and uploads of the probe; return how many are still there.

        Raises what listing them raises. May be repeated.
        """
        self._removing = True
        keeps_versions = bool(self._versions) or not self._began
        self._stopping.set()  # a request of an interrupted probe is not tried again
        wait_for_all(self._calls, LEAVE_SECONDS)
        self._calls.clear()
        self._stopping.clear()
        objects, uploads = self._listed, set(self._open)
        if not objects:
            uploads |= self._list_uploads()
            objects = self.listed()
        aborted: set[tuple[str, str]] = set()
        for _ in range(REMOVAL_ROUNDS):
            aborted |= self._abort(uploads - aborted)
            self._delete(objects)
            # After those: SeaweedFS takes a second over two deletes of one object at once.
            self._delete(self._written - objects)
            self._written.clear()
            listing = self.call(self._list_uploads)
            versions = self.call(self._list_versions) if keeps_versions else None
            objects, uploads = self.listed(), listing.result()
            self._versions = set() if versions is None else versions.result()
            # Azure goes on to list what cannot be aborted there, and drops it by itself.
            if not objects and not self._versions and uploads <= aborted:
                break
            # What has only old versions or a marker left is listed by no other list.
            self._written |= {key for key, _ in self._versions}
        objects |= {key for key, _ in self._versions}
        self.left = tuple(sorted([*objects, *(key for key, _ in uploads - aborted)]))
        return len(self.left)

    def _note(self, key: str, written: Written) -> None:
        self._written.add(key)
        if written.version_id is not None:
            self._versions.add((key, written.version_id))

    def _go_on(self) -> None:
        """Raise Stopped if the canaries are being removed: an interrupted probe writes no more."""
        if self._removing:
            raise Stopped
        self._began = True

    def _delete(self, keys: Iterable[str]) -> None:
        """Delete objects, those below another's name before that one."""
        waiting = set(keys)
        while waiting:
            above = {
                key
                for key in waiting
                for other in waiting
                if other != key and other.startswith(key.rstrip("/") + "/")
            }
            all_results(self.call(partial(self._delete_one, key)) for key in waiting - above)
            waiting = above

    def _delete_one(self, key: str) -> None:
        """Delete all that is known to stand under a name.

        In a bucket that keeps versions a plain deletion only hides the object behind a marker, so
        versions go by their ids, and markers of ours with them. Azure deletes no current version.
        """
        ids = [version for name, version in self._versions if name == key]
        if not ids or self.target.provider == "azure":
            self._delete_version(key, None)
        for version_id in ids:
            self._delete_version(key, version_id)

    def _delete_version(self, key: str, version_id: str | None) -> None:
        with contextlib.suppress(NoriaError):  # the listing shows what is left
            self.target.delete_object(key, version_id)

    def _abort(self, uploads: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Abort uploads, those of one name one by one; return those that are aborted."""
        names: dict[str, list[str]] = {}
        for key, upload_id in uploads:
            names.setdefault(key, []).append(upload_id)
        self._open.clear()
        calls = [self.call(partial(self._abort_all, *item)) for item in names.items()]
        return set().union(*all_results(calls))

    def _abort_all(self, key: str, upload_ids: Iterable[str]) -> set[tuple[str, str]]:
        aborted = set()
        for upload_id in upload_ids:
            with contextlib.suppress(NoriaError):
                self.target.abort_upload(key, upload_id)
                aborted.add((key, upload_id))
        return aborted

    def _list_uploads(self) -> set[tuple[str, str]]:
        return {(upload.key, upload.upload_id) for upload in self.target.list_uploads(self.base)}

    def _list_versions(self) -> set[tuple[str, str]]:
        """Versions and markers of canaries, as far as the target tells.

        A bucket that never kept any names its objects `null`; those go as objects do.
        """
        found: set[tuple[str, str]] = set()
        with contextlib.suppress(NoriaError):  # it takes a right of its own
            for prefix in self._prefixes:
                found |= {
                    (version.key, version.version_id)
                    for version in self.target.list_versions(prefix)
                    if version.is_marker or version.version_id not in ("", "null")
                }
        return found

    def _list(self, prefix: str) -> set[str]:
        batches = list_objects(self.target.inner, prefix, streams=1)
        return {key for batch in batches for key in batch.column("key").to_pylist()}


def _write_body(send: Send) -> None:
    send(BODY[:2])
    send(BODY[2:])
