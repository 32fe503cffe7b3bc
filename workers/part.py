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
        _read(route, entry, upload.etag, part.offset, body)
        digest = PartDigest(route.options.chunk_bytes)
        digest.update(body)

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
            with closing(_ranges(route, entry, upload, part, buffer, digests[-1], sent)) as body:
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
    digest: PartDigest,
    sent: Sent,
) -> Generator[memoryview, None, None]:
    done = 0
    while done < part.size:
        view = buffer[: min(len(buffer), part.size - done)]
        _read(route, entry, upload.etag, part.offset + done, view)
        digest.update(view)
        sent.add(len(view))
        yield view
        done += len(view)


def _read(route: Route, entry: ObjectEntry, etag: str, offset: int, into: memoryview) -> None:
    step(
        route,
        "source",
        "get",
        lambda: route.source.read_range(
            route.source_name(entry),
            offset=offset,
            into=into,
            etag=etag,
            version_id=entry.version_id,
        ),
    )
    route.counting.add("bytes_read", by=len(into))


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
    )
