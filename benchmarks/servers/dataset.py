"""Objects made from a seed: any byte of any object can be computed again, so no copy is kept.

    specs = build_mixed(10**9, seed=7)
    upload_azure(specs, connection_string, "reads", seed=7)
    object_bytes(7, specs[0].key, offset=1_000, length=10)

The bytes do not compress, and those of two keys or two seeds have nothing in common.
"""

from __future__ import annotations

import contextlib
import io
import math
import random
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import xxhash
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContentSettings
from boto3.s3.transfer import TransferConfig
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR

AES_BLOCK_BYTES = 16
ZEROS = bytes(64 << 10)  # a piece that stays in a core's cache

UPLOAD_THREADS = 16
UPLOAD_PART_BYTES = 8 << 20

# Each class: its sizes, spread evenly by order of magnitude, and the share of all bytes that it
# leaves to the classes below. 10**9 bytes make some 10 large, 200 medium and 1,700 small objects.
SIZE_CLASSES = (
    ((8 << 20, 256 << 20), 0.32),
    ((64 << 10, 8 << 20), 0.02),
    ((256, 64 << 10), 0.0),
)
EMPTY_OBJECTS = 3

CONTENT_TYPES = (
    "application/json",
    "application/octet-stream",
    "application/vnd.apache.parquet",
    "image/png",
    "text/csv; charset=utf-8",
    "text/plain",
)

# Every store takes these, yet each breaks a client that encodes carelessly. `{n}` is the object's
# number, which also keeps a key from being the folder of another. Text is NFC; no segment is empty,
# "." or ".." or exceeds 254 bytes; no key ends in a slash.
LONGEST_SEGMENT_BYTES = 254
AWKWARD_KEYS = (
    "with spaces/two  in a row/report {n}.txt",
    "signs/plus+{n}&more.csv",
    "signs/100%25 of 41%{n}.json",
    "signs/{n}?versionId=null#top;a=b@c~'quoted'",
    "unicode/médecine générale/日本語-{n}-Ωß😀.bin",
    "long/{long}",
    "deep/" + "level/" * 60 + "{n}.txt",
    "dots/..hidden/{n}..",
    "dots/{n}.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSpec:
    """What an object is; with the seed, all of it. `size` is in bytes."""

    key: str
    size: int
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def object_bytes(seed: int, key: str, offset: int, length: int) -> bytes:
    """Bytes `offset` to `offset + length` of the object `key`: the same at every call.

    They are the key stream of AES-CTR, whose n-th block depends on nothing but the key and n.
    """
    # Growing in place beats one large allocation, whose pages the kernel zeroes one by one.
    grown = io.BytesIO()
    for piece in _pieces(seed, key, offset, length):
        grown.write(piece)
    return grown.getvalue()


def fill_object_bytes(buffer: memoryview, seed: int, key: str, offset: int) -> None:
    """The same bytes, into a buffer that is there already: faster for large ones."""
    start = 0
    for piece in _pieces(seed, key, offset, len(buffer)):
        buffer[start : start + len(piece)] = piece
        start += len(piece)


def _pieces(seed: int, key: str, offset: int, length: int) -> Iterator[bytes]:
    cipher_key = xxhash.xxh3_128_digest(f"{seed}/{key}".encode())
    block, skipped_bytes = divmod(offset, AES_BLOCK_BYTES)
    stream = Cipher(AES128(cipher_key), CTR(block.to_bytes(AES_BLOCK_BYTES, "big"))).encryptor()
    stream.update(ZEROS[:skipped_bytes])
    for start in range(0, length, len(ZEROS)):
        yield stream.update(ZEROS[: length - start])


class ObjectStream(io.RawIOBase):
    """An object as a file that can be read and sought, for clients that want one."""

    def __init__(self, seed: int, spec: ObjectSpec) -> None:
        self._seed = seed
        self._spec = spec
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._spec.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        left = max(0, self._spec.size - self._position)
        piece = memoryview(buffer).cast("B")[:left]
        fill_object_bytes(piece, self._seed, self._spec.key, self._position)
        self._position += len(piece)
        return len(piece)


def build_mixed(total_bytes: int, seed: int) -> list[ObjectSpec]:
    """Small, medium, large and empty objects, `total_bytes` together to the byte, in mixed order.

    A quarter has awkward names, half have user metadata, a tenth has tags. The same arguments give
    the same list.
    """
    draw = random.Random(f"mixed {seed}")
    sizes = [0] * EMPTY_OBJECTS + list(_draw_sizes(total_bytes, draw))
    draw.shuffle(sizes)
    return [
        ObjectSpec(
            key=_key(number),
            size=size,
            content_type=draw.choice(CONTENT_TYPES),
            metadata=_draw_metadata(draw),
            tags={"class": "open data", "ratio": "1+2=3"} if draw.random() < 0.1 else {},
        )
        for number, size in enumerate(sizes)
    ]


def _draw_sizes(total_bytes: int, draw: random.Random) -> Iterator[int]:
    left = total_bytes
    for limits, kept_share in SIZE_CLASSES:
        lowest, highest = limits
        kept_bytes = int(total_bytes * kept_share)
        while left - kept_bytes >= lowest:
            size = _log_uniform(lowest, min(highest, left - kept_bytes), draw)
            left -= size
            yield size
    if left:
        yield left


def _log_uniform(lowest: int, highest: int, draw: random.Random) -> int:
    return round(math.exp(draw.uniform(math.log(lowest), math.log(highest))))


def _key(number: int) -> str:
    if number % 4:
        return f"cohort-{number % 7}/year-{2020 + number % 5}/record-{number:08}.dat"
    pattern = AWKWARD_KEYS[number // 4 % len(AWKWARD_KEYS)]
    return pattern.format(n=number, long=str(number).rjust(LONGEST_SEGMENT_BYTES, "x"))


def _draw_metadata(draw: random.Random) -> dict[str, str]:
    """Names that are both C# identifiers, as Azure wants, and lower case, as S3 returns them."""
    if draw.random() < 0.5:
        return {}
    metadata = {"project": f"research/{draw.randrange(1000)}", "consent_form": "v=2; signed, 50%"}
    if draw.random() < 0.1:
        metadata["abstract"] = "lorem ipsum " * 80 + "end"
    return metadata


def upload_azure(
    specs: Sequence[ObjectSpec], connection_string: str, container: str, seed: int
) -> None:
    """Put all objects into `container`, which is made if absent. A repeat writes the same again."""
    with BlobServiceClient.from_connection_string(
        connection_string,
        max_single_put_size=UPLOAD_PART_BYTES,
        max_block_size=UPLOAD_PART_BYTES,
        connection_pool_maxsize=UPLOAD_THREADS,
    ) as service:
        client = service.get_container_client(container)
        with contextlib.suppress(ResourceExistsError):
            client.create_container()

        def upload(spec: ObjectSpec) -> None:
            client.upload_blob(
                spec.key,
                ObjectStream(seed, spec),
                length=spec.size,
                overwrite=True,
                content_settings=ContentSettings(content_type=spec.content_type),
                metadata=dict(spec.metadata),
                tags=dict(spec.tags) or None,
            )

        _for_each(upload, specs)


def upload_s3(
    specs: Sequence[ObjectSpec], client: Any, bucket: str, seed: int, *, tags: bool = True
) -> None:
    """Put all objects into `bucket` by a boto3 client. A repeat writes the same again.

    `tags=False` leaves tags out, for stores that refuse them.
    """
    # Threads over objects are enough; a stream can be read by one thread only.
    transfer = TransferConfig(
        multipart_threshold=UPLOAD_PART_BYTES + 1,
        multipart_chunksize=UPLOAD_PART_BYTES,
        use_threads=False,
    )

    def upload(spec: ObjectSpec) -> None:
        attributes = {"ContentType": spec.content_type, "Metadata": dict(spec.metadata)}
        if tags and spec.tags:
            attributes["Tagging"] = urllib.parse.urlencode(spec.tags)
        client.upload_fileobj(
            ObjectStream(seed, spec), bucket, spec.key, ExtraArgs=attributes, Config=transfer
        )

    _for_each(upload, specs)


def _for_each(upload: Callable[[ObjectSpec], None], specs: Sequence[ObjectSpec]) -> None:
    """All in parallel, largest first, so that no large object is left over at the end alone."""
    with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
        for _ in pool.map(upload, sorted(specs, key=lambda spec: spec.size, reverse=True)):
            pass
