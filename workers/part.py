"""One part on its way: read, hashed and sent, out of one buffer or streamed through it.

transfer.py says when a part is sent again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from manifests.errors import DigestRefused
from manifests.model import ObjectEntry, Part, PartRecord, Upload
from workers.digest import PartDigest
from workers.route import Route, step
from workers.store import Checksum, Written
from workers.tally import Sent


def send_buffered(
    route: Route, entry: ObjectEntry, upload: Upload, part: Part, sent: Sent
) -> PartRecord:
    """A part that fits a buffer: its checksum goes out with it."""
    with route.buffers.take(part.size) as body:
        digest = PartDigest(route.options.chunk_bytes)
        digest = _read(route, entry, upload.etag, part.offset, body, digest)

        def put() -> Written:
            sent.add(part.size)
            return route.target.put_part(
                route.target_name(entry),
                upload.upload_id,
                part.number,
                body,
                size=part.size,
                crc64nvme=digest.crc64nvme,
            )

        written = step(route, "target", "put_part", put)
    checked = route.target.checksum is not Checksum.NONE
    return _part_record(entry, part, digest, written, checked=checked)


def send_streamed(
    route: Route, entry: ObjectEntry, upload: Upload, part: Part, sent: Sent
) -> PartRecord:
    """A part larger than a buffer: the next range is read when the last one is sent, and its
    checksum is known after the last byte."""
    # First the buffer, then the target's slot, as everywhere: or two streams could wait for each
    # other.
    with route.buffers.take(min(part.size, route.options.range_bytes)) as buffer:
        digests: list[PartDigest] = []

        def put() -> Written:
            digests.append(PartDigest(route.options.chunk_bytes))
            with closing(_ranges(route, entry, upload, part, buffer, digests, sent)) as body:
                return route.target.put_part(
                    route.target_name(entry),
                    upload.upload_id,
                    part.number,
                    body,
                    size=part.size,
                    crc64nvme=None,
                )

        written = step(route, "target", "put_part", put)
    checked = route.target.checksum is Checksum.CRC64NVME and route.target.trailers
    return _part_record(entry, part, digests[-1], written, checked=checked)


def _ranges(
    route: Route,
    entry: ObjectEntry,
    upload: Upload,
    part: Part,
    buffer: memoryview,
    digests: list[PartDigest],
    sent: Sent,
) -> Generator[memoryview, None, None]:
    """The part's bytes; the last of `digests` is always that of what has been read."""
    done = 0
    while done < part.size:
        view = buffer[: min(len(buffer), part.size - done)]
        digests[-1] = _read(route, entry, upload.etag, part.offset + done, view, digests[-1])
        sent.add(len(view))
        yield view
        done += len(view)


def _read(
    route: Route, entry: ObjectEntry, etag: str, offset: int, into: memoryview, so_far: PartDigest
) -> PartDigest:
    """Fill `into`; returns the digest of what came before and of this."""

    def read() -> PartDigest:
        digest = so_far.fork()
        head = route.source.read_range(
            route.source_name(entry),
            offset=offset,
            into=into,
            etag=etag,
            version_id=entry.version_id,
            on_bytes=digest.update,
        )
        digest.add_stated(head.range_crc64nvme, len(into))
        if digest.stated_crc64nvme not in (None, digest.crc64nvme):
            raise DigestRefused("the bytes read are not those the source states", key=entry.key)
        return digest

    digest = step(route, "source", "get", read)
    route.counting.add("bytes_read", by=len(into))
    return digest


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
