"""The transfer of one part: read it, hash it and send it, buffered or streamed.

    buffered    the whole part is read, then sent; its checksum is in the request's headers
    streamed    each piece is sent while it is still in a core's cache; the checksum follows it

A streamed part costs less CPU over http (benchmarks/README.md), needs only 1 MiB of memory, and
keeps both directions busy at once. A large part is streamed unless the target would then not verify
its checksum; a part that does not fit one read is always streamed. If the source fails in the
middle, the part is sent again from its start.

transfer.py decides when a part is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.manifests.counters import Counter
from noria.manifests.errors import DigestRefused
from noria.manifests.model import ObjectEntry, Part, PartRecord, Upload
from noria.manifests.plan.parts import PART_BYTES_LEAST
from noria.workers.context import TransferContext
from noria.workers.digest import PartDigest
from noria.workers.http.client import Send
from noria.workers.runtime.buffers import ScratchBuffer
from noria.workers.stores.paced import PacedTarget
from noria.workers.stores.protocol import Checksum, Written

STREAM_BYTES: Final = PART_BYTES_LEAST
"""Smaller parts are read before they are sent: a failed read then wastes nothing that was sent."""
WINDOW_BYTES: Final = 1024 * 1024
"""The buffer that a part is streamed through."""


def is_streamed(context: TransferContext, part: Part) -> bool:
    """Return True if the part is to be sent while it is read."""
    target = context.target.capabilities
    in_trailer = target.checksum is Checksum.CRC64NVME and target.checksum_in_trailer
    keeps_checksum = in_trailer or target.checksum is Checksum.NONE
    return part.size > context.options.range_bytes or (part.size >= STREAM_BYTES and keeps_checksum)


@dataclass(frozen=True, slots=True)
class PartTransfer:
    """The transfer of one part from its source to its upload."""

    context: TransferContext
    entry: ObjectEntry
    upload: Upload
    part: Part
    target: PacedTarget
    """The context's target, metered for this part."""

    def send(self) -> PartRecord:
        """Send the part once.

        Raises OutcomeUnknown or DigestRefused if the part should be sent again, and anything else
        that the source or the target raises.
        """
        if is_streamed(self.context, self.part):
            return self._send_streamed()
        return self._send_buffered()

    def _send_buffered(self) -> PartRecord:
        """Read the whole part, then send it with its checksum."""
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
        """Fill `into` with the part and return its digest."""
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
        self.context.check_stated_crc(self.entry, digest.stated_crc64nvme, digest.crc64nvme)
        self.context.counters.add(Counter.BYTES_READ, by=len(into))
        return digest

    def _send_streamed(self) -> PartRecord:
        """Send the part while it is read; its checksum is known after the last byte."""
        # The buffer is taken before the target's slot, as everywhere else. In another order, two
        # streams could wait for each other.
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
            raise DigestRefused(
                "the target states another checksum for a part: send it again", key=self.entry.key
            )
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
    """A request body that is read from the source while it is sent, range by range."""

    def __init__(self, transfer: PartTransfer, window: memoryview) -> None:
        self._transfer = transfer
        self._window = window
        self.digest = PartDigest(transfer.context.options.chunk_bytes)
        """Of the bytes sent in this try."""

    def write_body(self, send: Send) -> None:
        """Send the whole body, from its start.

        Raises what `send` raises, and the source's error if it fails after some bytes of a range
        were sent. The target's store then calls this again.
        """
        self.digest.restart()
        part, range_bytes = self._transfer.part, self._transfer.context.options.range_bytes
        try:
            for done in range(0, part.size, range_bytes):
                self._pass_on(part.offset + done, min(range_bytes, part.size - done), send)
        except _SendFailed as failed:
            raise failed.error from failed
        if self.digest.stated_crc64nvme not in (None, self.digest.crc64nvme):
            raise DigestRefused(
                "the bytes read do not have the checksum that the source states: read them again",
                key=self._transfer.entry.key,
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
    """Listens to the read of one range, and sends each piece on."""

    def __init__(self, digest: PartDigest, send: Send) -> None:
        self._digest = digest
        self._send = send
        self._before = digest.size

    def update(self, piece: memoryview, crc64nvme: int | None = None) -> None:
        self._digest.update(piece, crc64nvme)
        try:
            self._send(piece)
        except Exception as error:  # the target failed, not the source
            raise _SendFailed(error) from error

    def restart(self) -> bool:
        """True if nothing of this range was sent; otherwise the whole part must be sent again."""
        return self._digest.size == self._before


class _SendFailed(Exception):
    """Wraps the target's error, which the source would otherwise take for its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
