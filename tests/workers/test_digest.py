"""Checksums against their published check values, and combination against a full pass."""

import hashlib
import os

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from noria.manifests.model import PartRecord
from noria.workers.digest import PartDigest, combine_parts, crc64nvme, tree_root


def test_crc64nvme_has_the_published_check_value() -> None:
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888


@given(
    st.binary(max_size=5000),
    st.integers(1, 700),
    st.lists(st.integers(1, 900), max_size=20),
)
def test_any_slicing_of_a_part_gives_the_same_digests(
    body: bytes, chunk_bytes: int, slices: list[int]
) -> None:
    digest, offset = PartDigest(chunk_bytes), 0
    for size in [*slices, len(body)]:
        digest.update(memoryview(body)[offset : offset + size])
        offset += size
    expected = b"".join(
        xxhash.xxh3_128_digest(body[start : start + chunk_bytes])
        for start in range(0, len(body), chunk_bytes)
    )
    assert digest.chunks() == expected
    assert digest.crc64nvme == crc64nvme(body)
    assert digest.size == len(body)


@given(st.binary(min_size=1, max_size=4000), st.integers(1, 9))
def test_parts_of_whole_chunks_combine_to_the_digests_of_the_object(
    body: bytes, chunks_a_part: int
) -> None:
    chunk_bytes = 64
    part_bytes = chunk_bytes * chunks_a_part
    parts = []
    for number, start in enumerate(range(0, len(body), part_bytes), 1):
        digest = PartDigest(chunk_bytes)
        digest.update(memoryview(body)[start : start + part_bytes])
        parts.append(
            PartRecord(
                number=number,
                size=digest.size,
                etag="",
                crc64nvme=digest.crc64nvme,
                chunks=digest.chunks(),
            )
        )
    whole = PartDigest(chunk_bytes)
    whole.update(memoryview(body))
    assert combine_parts(parts) == (crc64nvme(body), whole.chunks())


def test_the_root_depends_on_size_chunk_size_and_every_chunk() -> None:
    chunks = os.urandom(48)
    root = tree_root(20, 8, chunks)
    header = b"noria.tree.1\0" + (20).to_bytes(8, "big") + (8).to_bytes(8, "big")
    assert root == hashlib.sha256(header + chunks).digest()
    assert len({root, tree_root(21, 8, chunks), tree_root(20, 9, chunks)}) == 3
    assert tree_root(20, 8, chunks[16:] + chunks[:16]) != root
