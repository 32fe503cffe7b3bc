"""Checksums over bytes as they pass: xxh3_128 for each chunk, CRC64NVME for each part, one root.

CRC64NVME (width 64, polynomial 0xad93d23594c93659, reflected, init and xorout all ones; check value
0xae8b14860a799888) is also Azure's storage CRC64. Two values combine to that of the joined bytes,
so the parts give the value of the whole object without another pass.

xxh3 does not combine. So it is taken over fixed chunks, whose borders do not depend on part sizes:
a receipt can be checked with parts of any size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import xxhash
from awscrt import checksums

from noria.manifests.model import PartRecord

DIGEST_BYTES = 16
"""The digest of one chunk: xxh3_128, big endian."""


class PartDigest:
    """Both checksums of one part, from pieces of any size. A part starts at a chunk's border."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self.restart()

    def restart(self) -> bool:
        """Forget everything and start again; returns True, as ReadListener.restart promises."""
        self._room = self._chunk_bytes
        self._hash = xxhash.xxh3_128()
        self._chunks: list[bytes] = []
        self.crc64nvme = 0
        self.size = 0
        self._stated = 0
        self._stated_bytes = 0
        return True

    def update(self, view: memoryview, crc64nvme: int | None = None) -> None:
        """Add the next bytes. `crc64nvme` is their checksum, if it is known already."""
        if crc64nvme is None:
            self.crc64nvme = checksums.crc64nvme(view, self.crc64nvme)
        else:
            self.crc64nvme = combine(self.crc64nvme, crc64nvme, len(view))
        self.size += len(view)
        while view:
            piece = view[: self._room]
            self._hash.update(piece)
            self._room -= len(piece)
            view = view[len(piece) :]
            if self._room == 0:
                self._close_chunk()

    def add_stated(self, crc64nvme: int | None, size: int) -> None:
        """Add the CRC64NVME that the source states for the next `size` bytes; None: it states none.

        Calls follow the order of the bytes.
        """
        if crc64nvme is not None:
            self._stated = combine(self._stated, crc64nvme, size)
            self._stated_bytes += size

    @property
    def stated_crc64nvme(self) -> int | None:
        """The CRC64NVME that the source states for all bytes added so far, combined.

        None if there are no bytes, or if the source states none for some of them.
        """
        return self._stated if 0 < self.size == self._stated_bytes else None

    def _close_chunk(self) -> None:
        self._chunks.append(self._hash.digest())
        self._hash.reset()
        self._room = self._chunk_bytes

    def chunks(self) -> bytes:
        """Return all digests, including that of a shorter last chunk. Call once, at the end."""
        if self._room < self._chunk_bytes:
            self._close_chunk()
        return b"".join(self._chunks)


def crc64nvme(view: memoryview | bytes, so_far: int = 0) -> int:
    """Return the CRC64NVME of bytes whose checksum is `so_far`, followed by `view`."""
    return int(checksums.crc64nvme(view, so_far))


def combine(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC64NVME of two joined pieces from their checksums and the second's size."""
    return int(checksums.combine_crc64nvme(first, second, second_bytes))


def combine_parts(parts: Iterable[PartRecord]) -> tuple[int, bytes]:
    """Return the whole object's CRC64NVME and chunk digests from all parts in order."""
    whole = 0
    chunks: list[bytes] = []
    for part in parts:
        whole = combine(whole, part.crc64nvme, part.size)
        chunks.append(part.chunks)
    return whole, b"".join(chunks)


def tree_root(size: int, chunk_bytes: int, chunks: bytes) -> bytes:
    """Return the SHA-256 over a domain tag, the size, the chunk size and the chunk digests.

    Both sizes are in bytes, as 8 bytes big endian.
    """
    header = b"noria.tree.1\0" + size.to_bytes(8, "big") + chunk_bytes.to_bytes(8, "big")
    return hashlib.sha256(header + chunks).digest()
