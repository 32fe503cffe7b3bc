"""One part on its way: read, hashed and sent, out of one buffer or streamed through a small one.

    buffered    all of it is read, then all of it is sent, its checksum in the head of the request
    streamed    each piece is sent on while it still lies in a core's cache; the checksum follows

A streamed part costs less CPU over http (benchmarks/README.md), needs 1 MiB of memory, and keeps
both directions busy at once. It takes a target that checks what comes behind a body. If its source
fails in the middle, the part is sent again from its start.

transfer.py says when a part is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.manifests.counters import Counter
from noria.manifests.errors import DigestRefused
from noria.manifests.model import ObjectEntry, Part, PartRecord, Upload
from noria.workers.context import TransferContext
from noria.workers.digest import PartDigest
from noria.workers.http.client import Send
from noria.workers.runtime.buffers import ScratchBuffer
from noria.workers.stores.paced import PacedTarget
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


@dataclass(frozen=True, slots=True)
class PartTransfer:
    """One part between its source and its upload."""

    context: TransferContext
    entry: ObjectEntry
    upload: Upload
    part: Part
    target: PacedTarget
    """The context's, metered for this part."""

    def send(self) -> PartRecord:
        """One try. Raises what either end raises; OutcomeUnknown or DigestRefused if the part
        should be sent again."""
        if is_streamed(self.context, self.part):
            return self._send_streamed()
        return self._send_buffered()

    def _send_buffered(self) -> PartRecord:
        """A part that fits a buffer: its checksum goes out with it."""
        with self.context.buffers.take(self.part.size) as body:
            digest = self._read(body)
            written = self.target.put_part(
                self.context.target_name(self.entry),
                self.upload.upload_id,
                self.part.number,
                body,
                size=self.part.size,
                crc64nvme=lambda: digest.crc64nvme,
            )
        checked = self.target.capabilities.checksum is not Checksum.NONE
        return self._record(digest, written, checked=checked)

    def _read(self, into: memoryview) -> PartDigest:
        """Fill `into`; returns the digest of it."""
        digest = PartDigest(self.context.options.chunk_bytes)
        head = self.context.source.read_range(
            self.context.source_name(self.entry),
            offset=self.part.offset,
            into=into,
            etag=self.upload.etag,
            version_id=self.entry.version_id,
            listener=digest,
        )
        digest.add_stated(head.range_crc64nvme, len(into))
        self.context.refuse_flipped(self.entry, digest.stated_crc64nvme, digest.crc64nvme)
        self.context.counters.add(Counter.BYTES_READ, by=len(into))
        return digest

    def _send_streamed(self) -> PartRecord:
        """A part that is sent while it is read: its checksum is known after the last byte."""
        # First the buffer, then the target's slot, as everywhere: or two streams could wait for
        # each other.
        with self.context.buffers.take(min(self.part.size, WINDOW_BYTES)) as window:
            stream = _Stream(self, window)
            written = self.target.put_part(
                self.context.target_name(self.entry),
                self.upload.upload_id,
                self.part.number,
                stream.write_body,
                size=self.part.size,
                crc64nvme=lambda: stream.digest.crc64nvme,
            )
        return self._record(stream.digest, written, checked=False)

    def _record(self, digest: PartDigest, written: Written, *, checked: bool) -> PartRecord:
        if written.crc64nvme not in (None, digest.crc64nvme):
            raise DigestRefused("the target states another checksum for a part", key=self.entry.key)
        return PartRecord(
            number=self.part.number,
            size=self.part.size,
            etag=written.etag,
            crc64nvme=digest.crc64nvme,
            chunks=digest.chunks(),
            checked=checked or written.crc64nvme is not None,
            stated=digest.stated_crc64nvme is not None,
        )


class _Stream:
    """A body that is read while it is sent, range by range."""

    def __init__(self, transfer: PartTransfer, window: memoryview) -> None:
        self._transfer = transfer
        self._window = window
        self.digest = PartDigest(transfer.context.options.chunk_bytes)
        """Of what has gone out in this try."""

    def write_body(self, send: Send) -> None:
        """All of it, from its start. Raises what `send` raises, and what the source does once bytes
        of the range have gone out: the target's store then asks for all of it again."""
        self.digest.restart()
        part, range_bytes = self._transfer.part, self._transfer.context.options.range_bytes
        try:
            for done in range(0, part.size, range_bytes):
                self._pass_on(part.offset + done, min(range_bytes, part.size - done), send)
        except _SendFailed as failed:
            raise failed.error from failed
        if self.digest.stated_crc64nvme not in (None, self.digest.crc64nvme):
            raise DigestRefused(
                "the bytes read are not those the source states", key=self._transfer.entry.key
            )

    def _pass_on(self, offset: int, size: int, send: Send) -> None:
        transfer = self._transfer
        context, entry = transfer.context, transfer.entry
        head = context.source.read_range(
            context.source_name(entry),
            offset=offset,
            into=ScratchBuffer(self._window, size),
            etag=transfer.upload.etag,
            version_id=entry.version_id,
            listener=_Relay(self.digest, send),
        )
        self.digest.add_stated(head.range_crc64nvme, size)
        context.counters.add(Counter.BYTES_READ, by=size)


class _Relay:
    """Hears one range, and sends it on."""

    def __init__(self, digest: PartDigest, send: Send) -> None:
        self._digest = digest
        self._send = send
        self._before = digest.size

    def update(self, piece: memoryview, crc64nvme: int | None = None) -> None:
        self._digest.update(piece, crc64nvme)
        try:
            self._send(piece)
        except Exception as error:  # the target's, and no fault of the source
            raise _SendFailed(error) from error

    def restart(self) -> bool:
        """What has gone out cannot be taken back: the whole part has to be sent again."""
        return self._digest.size == self._before


class _SendFailed(Exception):
    """The target's error on its way past the source, which would take it for its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
