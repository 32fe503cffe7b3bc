"""Tiles of a tree as files, named as C2SP's tlog-tiles names them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from noria.manifests.access import make_folders, open_new
from noria.manifests.proof.tree import TILE_HASHES, tile_width

TILES: Final = "tile"
HASH_BYTES: Final = 32
_TILES_KEPT: Final = 64
"""Tiles that a reader holds, 8 KiB each."""


def grouped(number: int) -> str:
    """A number as a path: 5 is 005, 1234067 is x001/x234/067."""
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


def tile_name(level: int, index: int, width: int) -> str:
    """Below the folder of a tree."""
    whole = f"{TILES}/{level}/{grouped(index)}"
    return whole if width == TILE_HASHES else f"{whole}.p/{width}"


class TileFolder:
    """Writes the tiles of a tree below a folder, each flushed to disk. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, level: int, index: int, hashes: Sequence[bytes]) -> None:
        path = self._folder / tile_name(level, index, len(hashes))
        make_folders(path.parent)
        with open(path, "wb", opener=open_new) as file:
            file.write(b"".join(hashes))
            file.flush()
            os.fsync(file.fileno())


class StoredTree:
    """The hashes of a tree of `size` leaves whose tiles are below a folder.

    `leaf` gives the hash of a leaf. Raises OSError for a tile that cannot be read, and ValueError
    for one that has another length.
    """

    def __init__(self, folder: Path, size: int, leaf: Callable[[int], bytes]) -> None:
        self._folder = folder
        self._size = size
        self.leaf = leaf
        self._tile = functools.lru_cache(_TILES_KEPT)(self._read)

    def tile_hash(self, level: int, index: int) -> bytes:
        tile, place = divmod(index, TILE_HASHES)
        first = place * HASH_BYTES
        return self._tile(level, tile)[first : first + HASH_BYTES]

    def _read(self, level: int, index: int) -> bytes:
        width = tile_width(self._size, level, index)
        name = tile_name(level, index, width)
        data = (self._folder / name).read_bytes()
        if len(data) != width * HASH_BYTES:
            raise ValueError(f"{name} has not {width} hashes")
        return data
