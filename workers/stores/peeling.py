"""Items of an XML listing, read straight from its bytes: most of a page is one shape repeated.

A parser makes an object of every element, only for it to be taken apart again. Here a page is cut
into tags and the texts between them, all at once; items whose tags are the same, byte for byte, are
rows of one table, and each text of theirs is a column. What is not so plain (a shape that is
no tree, a comment, white space between tags, many shapes) is left where it is, for the parser.

What is peeled off is what a parser would have read, except that a literal CR is kept: stores write
no line breaks between elements, so that a CR is part of a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SHAPES_MAX: Final = 32
"""Of one page: each is looked for among all items."""
ENCODED: Final = "@Encoded"
"""Ends the path of a Name whose text is percent-encoded, as Azure marks it."""

_TAG: Final = re.compile(rb"(<[^>]*>)")
_OPENING: Final = re.compile(rb"<([^\s<>/=\"'!?&]+)( Encoded=\"true\")?( ?/)?>")
_DECLARED: Final = re.compile(rb"<\?xml[^>]*encoding=[\"']([^\"']*)")
_NO_CHARACTERS: Final = "".join(map(chr, set(range(32)) - set(b"\t\n\r")))
"""No XML holds them."""
_ENTITY: Final = re.compile(r"&(?:#([0-9]{1,7})|#x([0-9a-fA-F]{1,6})|([a-z]+));|&")
_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


_Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeeledItems:
    """Items of one shape."""

    shape: ItemShape
    pieces: pa.BinaryArray
    """Of the whole page, by turns: a tag, and the text up to the next one."""
    first_tags: _Integers
    """Of each item: how many tags of the page stand before it."""
    places: _Integers
    """Of each item: how many items of the page stand before it."""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def paths(self) -> Sequence[str]:
        """Of each column, without the item's own tag: "Properties/Content-Length"."""
        return self.shape.paths

    def columns(self) -> dict[str, pa.Array]:
        """Return the texts of each path, null for empty ones; of a repeated path, the last.

        Raises ValueError if they are not UTF-8, or hold an unknown entity.
        """
        return {path: _texts(self._bytes(number)) for number, path in enumerate(self.paths)}

    def texts_of(self, path: str) -> list[list[str]]:
        """Return for each row the texts of a path that may be repeated."""
        columns = [
            [_text(value) for value in self._bytes(number).to_pylist()]
            for number, each in enumerate(self.paths)
            if each == path
        ]
        return [list(row) for row in zip(*columns, strict=True)] or [[] for _ in range(len(self))]

    def _bytes(self, number: int) -> pa.BinaryArray:
        tag = self.shape.text_tags[number]
        if tag is None:
            return pa.repeat(pa.scalar(b""), len(self))
        return self.pieces.take(pa.array(2 * (self.first_tags + tag) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemShape:
    """The tags of an item, in their order."""

    tags: Sequence[bytes]
    paths: Sequence[str]
    """Of its texts."""
    text_tags: Sequence[int | None]
    """Which of the tags each text stands behind; None: it is the text of an empty element."""


def peel(body: bytes, tag: str) -> tuple[list[PeeledItems], bytes]:
    """Take the items `tag` out of a document; return them by their shapes, and what is left."""
    opening, closing = f"<{tag}>".encode(), f"</{tag}>".encode()
    start, end = body.find(opening), body.rfind(closing) + len(closing)
    if not 0 <= start < end or not _is_plain(body, body[:start]):
        return [], body
    page = _Tags.of(body, start, end)
    if page is None:
        return [], body
    firsts = page.those_that_are(opening)
    counts = np.diff(firsts, append=np.int32(page.number))
    found: list[PeeledItems] = []
    left = np.ones(len(firsts), np.bool_)
    taken = len(firsts)
    while left.any():
        place = int(left.argmax())
        shape = None
        if len(found) < SHAPES_MAX:
            shape = _shape(
                body[page.place(firsts[place]) : page.place(firsts[place] + counts[place])]
            )
        if shape is None:
            taken = place
            break
        places = np.flatnonzero(left & (counts == len(shape.tags))).astype(np.int32)
        places = places[page.have_shape(firsts[places], shape)]
        left[places] = False
        found.append(
            PeeledItems(shape=shape, pieces=page.pieces, first_tags=firsts[places], places=places)
        )
    rest = page.place(firsts[taken]) if taken < len(firsts) else end
    return [_before(taken, items) for items in found], body[:start] + body[rest:]


def _before(place: int, items: PeeledItems) -> PeeledItems:
    kept = items.places < place
    return replace(items, first_tags=items.first_tags[kept], places=items.places[kept])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tags:
    """The tags of a stretch of a document, which begins and ends with one."""

    start: int
    """Of the stretch, in the document."""
    bounds: _Integers
    """Begin and end of each tag in the stretch, by turns, and its end once more."""
    pieces: pa.BinaryArray
    """As in PeeledItems."""

    @classmethod
    def of(cls, body: bytes, start: int, end: int) -> _Tags | None:
        """None if a tag begins within another one."""
        characters = np.frombuffer(body, np.uint8)[start:end]
        begins, ends = (np.flatnonzero(characters == ord(sign)).astype(np.int32) for sign in "<>")
        if len(begins) != len(ends) or np.any(begins > ends):
            ends = ends[np.searchsorted(ends, begins)]  # a text may hold a ">" of its own
        if np.any(ends[:-1] > begins[1:]):
            return None
        bounds = np.empty(2 * len(begins) + 1, np.int32)
        bounds[0:-1:2], bounds[1::2], bounds[-1] = begins, ends + 1, end - start
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(body).slice(start)]
        pieces = pa.Array.from_buffers(pa.binary(), len(bounds) - 1, buffers)
        return cls(start=start, bounds=bounds, pieces=pieces)

    @property
    def number(self) -> int:
        return len(self.pieces) // 2

    def place(self, tag: int) -> int:
        """Where a tag begins in the document; of the one behind the last, where that ends."""
        return self.start + int(self.bounds[2 * tag])

    def those_that_are(self, tag: bytes) -> _Integers:
        """The numbers of all tags that read so."""
        alike = np.flatnonzero(np.diff(self.bounds)[::2] == len(tag)).astype(np.int32)
        same = pc.equal(self.pieces.take(pa.array(2 * alike)), pa.scalar(tag))
        numbers: _Integers = alike[same.to_numpy(zero_copy_only=False)]
        return numbers

    def have_shape(self, firsts: _Integers, shape: ItemShape) -> npt.NDArray[np.bool_]:
        """Which of the items that begin with these tags have the tags of a shape, and no others.

        They have as many. Beside its paths, a shape has no text.
        """
        lengths = np.diff(self.bounds)
        pieces = 2 * (firsts[:, np.newaxis] + np.arange(len(shape.tags), dtype=np.int32))
        silent = [at for at in range(len(shape.tags)) if at not in shape.text_tags]
        have: npt.NDArray[np.bool_] = np.all(
            lengths[pieces] == [len(tag) for tag in shape.tags], axis=1
        )
        have &= (lengths[pieces[:, silent] + 1] == 0).all(axis=1)
        wanted = np.frombuffer(b"".join(shape.tags), np.uint8)
        tags = self.pieces.take(pa.array(pieces[have].ravel()))
        read = np.frombuffer(tags.buffers()[2], np.uint8).reshape(-1, len(wanted))
        have[have] = (read == wanted).all(axis=1)
        return have


def in_order(
    items: Sequence[PeeledItems], batch_of: Callable[[PeeledItems], pa.RecordBatch]
) -> pa.RecordBatch:
    """Make a batch of each shape's items; return all rows as they stand on the page."""
    batches = [batch_of(each) for each in items]
    if len(batches) == 1:
        return batches[0]
    places = pa.array(np.concatenate([each.places for each in items]))
    return joined(batches).take(pc.array_sort_indices(places))


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of one or more batches as one."""
    if len(batches) == 1:
        return batches[0]
    (batch,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return batch


def _is_plain(body: bytes, head: bytes) -> bool:
    """Return True if the bytes are the text: no sections, comments or entities of its own."""
    declared = _DECLARED.search(head)
    utf8 = declared is None or declared[1].lower() in (b"utf-8", b"utf8")
    characters = np.frombuffer(body, np.uint8)
    controls = characters[characters < 32].tobytes().translate(None, b"\t\n\r")
    return utf8 and b"<!" not in body and not controls


def _shape(item: bytes) -> ItemShape | None:
    """Return the shape of an item; None if it is not plain."""
    pieces = _TAG.split(item)
    texts, tags = pieces[0::2], pieces[1::2]
    open_tags: list[tuple[bytes, str]] = []
    paths: list[str] = []
    text_tags: list[int | None] = []
    just_opened = False
    for number, (text, tag) in enumerate(zip(texts, tags, strict=False)):
        closes = tag.startswith(b"</")
        if closes and just_opened:
            paths.append(open_tags[-1][1])
            text_tags.append(number - 1)
        elif text or (number and not open_tags):
            return None
        just_opened = False
        if closes:
            if not open_tags or open_tags.pop()[0] != tag[2:-1]:
                return None
            continue
        parsed = _OPENING.fullmatch(tag)
        if parsed is None or (parsed[2] and (parsed[1] != b"Name" or len(open_tags) != 1)):
            return None
        above = open_tags[-1][1] + "/" if len(open_tags) > 1 else ""
        path = above + parsed[1].decode(errors="replace") + (ENCODED if parsed[2] else "")
        if parsed[3]:
            paths.append(path)
            text_tags.append(None)
        else:
            open_tags.append((parsed[1], path))
            just_opened = True
    if open_tags or texts[-1]:
        return None
    return ItemShape(tags=tags, paths=paths, text_tags=text_tags)


def _texts(values: pa.BinaryArray) -> pa.Array:
    lengths = pc.min_max(pc.binary_length(values))
    if not lengths["max"].as_py():
        return pa.nulls(len(values), pa.string())
    texts = values.cast(pa.string())
    if _has_entity(texts):
        # ETags come in quotes, and nearly always as this entity.
        texts = pc.replace_substring(texts, "&quot;", '"')
        if _has_entity(texts):
            decoded = [_ENTITY.sub(_character, text) for text in texts.to_pylist()]
            texts = pa.array(decoded, pa.string())
    if lengths["min"].as_py():
        return texts
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _has_entity(texts: pa.StringArray) -> bool:
    return bool(np.any(np.frombuffer(texts.buffers()[2], np.uint8) == ord("&")))


def _text(value: bytes) -> str:
    return _ENTITY.sub(_character, value.decode())


def _character(entity: re.Match[str]) -> str:
    decimal, hexadecimal, name = entity.groups()
    if name is not None and name in _NAMED:
        return _NAMED[name]
    if not decimal and not hexadecimal:
        raise ValueError("an unknown entity")
    code = int(decimal) if decimal else int(hexadecimal, 16)
    surrogate = 0xD800 <= code < 0xE000
    if surrogate or code in (0xFFFE, 0xFFFF) or code > 0x10FFFF or chr(code) in _NO_CHARACTERS:
        raise ValueError("an entity without a character")
    return chr(code)
