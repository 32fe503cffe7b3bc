"""One part on its way: read, hashed and sent, out of one buffer or streamed through a small one.

    buffered    all of it is read, then all of it is sent, its checksum in the head of the request
    streamed    each piece is sent on while it still lies in a core's cache; the checksum follows

A streamed part costs less CPU over http (benchmarks/README.md), needs 1 MiB of memory, and keeps
both directions busy at once. It takes a target that checks what comes behind a body. Where its
source fails in the middle the part is sent again from its start.

transfer.py says when a part is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from noria.manifests.counters import Counter
from noria.manifests.errors import DigestRefused, Retryable
from noria.manifests.model import ObjectEntry, Part, PartRecord, Upload
from noria.workers.context import TransferContext, step
from noria.workers.counters import Sent
from noria.workers.digest import PartDigest
from noria.workers.http.client import Send
from noria.workers.runtime.buffers import ScratchBuffer
from noria.workers.stores.protocol import Checksum, Written

STREAM_BYTES: Final = 16 * 1024 * 1024
"""Smaller parts are read before they are sent: what a source breaks off costs nothing then."""
WINDOW_BYTES: Final = 1024 * 1024
"""What a part is streamed through."""


def is_streamed(context: TransferContext, part: Part) -> bool:
    """Whether the part is sent while it is read."""
    target = context.target.capabilities
    follows = target.checksum is Checksum.CRC64NVME and target.checksum_in_trailer
    loses_nothing = follows or target.checksum is Checksum.NONE
    return part.size > context.options.range_bytes or (part.size >= STREAM_BYTES and loses_nothing)


def send_buffered(
    context: TransferContext, entry: ObjectEntry, upload: Upload, part: Part, sent: Sent
) -> PartRecord:
    """A part that fits a buffer: its checksum goes out with it."""
    with context.buffers.take(part.size) as body:
        digest = _read(context, entry, upload.etag, part.offset, body)

        def put() -> Written:
            sent.add(part.size)
            return context.target.put_part(
                context.target_name(entry),
                upload.upload_id,
                part.number,
                body,
                size=part.size,
                crc64nvme=lambda: digest.crc64nvme,
            )

        written = step(context, "target", "put_part", put)
    checked = context.target.capabilities.checksum is not Checksum.NONE
    return _part_record(entry, part, digest, written, checked=checked)


def send_streamed(
    context: TransferContext, entry: ObjectEntry, upload: Upload, part: Part, sent: Sent
) -> PartRecord:
    """A part that is sent while it is read: its checksum is known after the last byte."""
    # First the buffer, then the target's slot, as everywhere: or two streams could wait for each
    # other.
    with context.buffers.take(min(part.size, WINDOW_BYTES)) as memory:
        stream = _Stream(context, entry, upload, part, memory, sent)
        written = step(context, "target", "put_part", stream.put)
    return _part_record(entry, part, stream.digest, written, checked=False)


@dataclass(slots=True)
class _Stream:
    """One part between its two requests."""

    context: TransferContext
    entry: ObjectEntry
    upload: Upload
    part: Part
    memory: memoryview
    sent: Sent
    digest: PartDigest = field(init=False)
    """Of what has gone out in this try."""

    def put(self) -> Written:
        """One try. Raises what the target raises, and what the source does once bytes of it have
        gone out: then the part has to be sent again, from its start."""
        self.digest = PartDigest(self.context.options.chunk_bytes)
        return self.context.target.put_part(
            self.context.target_name(self.entry),
            self.upload.upload_id,
            self.part.number,
            self._write_body,
            size=self.part.size,
            crc64nvme=lambda: self.digest.crc64nvme,
        )

    def _write_body(self, send: Send) -> None:
        """The part's bytes, range by range."""
        part, range_bytes = self.part, self.context.options.range_bytes
        try:
            for done in range(0, part.size, range_bytes):
                size = min(range_bytes, part.size - done)
                self._pass_on(part.offset + done, size, send)
        except _Broken as broken:
            raise broken.error from broken
        refuse_flipped(self.entry, self.digest.stated_crc64nvme, self.digest.crc64nvme)

    def _pass_on(self, offset: int, size: int, send: Send) -> None:
        """One range. Until a byte of it has gone out it may be asked for again."""
        context, entry = self.context, self.entry
        before = self.digest.size

        def hear(piece: memoryview, crc64nvme: int | None = None) -> None:
            self.digest.update(piece, crc64nvme)
            self.sent.add(len(piece))
            try:
                send(piece)
            except Exception as error:  # the target's, and no fault of the source
                raise _Broken(error) from error

        def read() -> None:
            try:
                head = context.source.read_range(
                    context.source_name(entry),
                    offset=offset,
                    into=ScratchBuffer(self.memory, size),
                    etag=self.upload.etag,
                    version_id=entry.version_id,
                    on_bytes=hear,
                )
            except Retryable as error:
                if self.digest.size == before:
                    raise
                raise _Broken(error) from error
            self.digest.add_stated(head.range_crc64nvme, size)

        step(context, "source", "get", read)
        context.counters.add(Counter.BYTES_READ, by=size)


class _Broken(Exception):
    """What ends a stream in the middle, on its way past the layers that would try again."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _read(
    context: TransferContext, entry: ObjectEntry, etag: str, offset: int, into: memoryview
) -> PartDigest:
    """Fill `into`; returns the digest of it."""

    def read() -> PartDigest:
        digest = PartDigest(context.options.chunk_bytes)
        head = context.source.read_range(
            context.source_name(entry),
            offset=offset,
            into=into,
            etag=etag,
            version_id=entry.version_id,
            on_bytes=digest.update,
        )
        digest.add_stated(head.range_crc64nvme, len(into))
        refuse_flipped(entry, digest.stated_crc64nvme, digest.crc64nvme)
        return digest

    digest = step(context, "source", "get", read)
    context.counters.add(Counter.BYTES_READ, by=len(into))
    return digest


def refuse_flipped(entry: ObjectEntry, stated: int | None, read: int) -> None:
    """Raises DigestRefused where the source states another CRC64NVME than that of what was read."""
    if stated is not None and stated != read:
        raise DigestRefused("the bytes read are not those the source states", key=entry.key)


def _part_record(
    entry: ObjectEntry, part: Part, digest: PartDigest, written: Written, *, checked: bool
) -> PartRecord:
    if written.crc64nvme not in (None, digest.crc64nvme):
        raise DigestRefused("the target states another checksum for a part", key=entry.key)
    return PartRecord(
        number=part.number,
        size=part.size,
        etag=written.etag,
        crc64nvme=digest.crc64nvme,
        chunks=digest.chunks(),
        checked=checked or written.crc64nvme is not None,
        stated=digest.stated_crc64nvme is not None,
    )
