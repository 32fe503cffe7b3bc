"""Columns of a report, turned into the types of INVENTORY_SCHEMA. Whole columns at a time.

Text (CSV) and typed columns (Parquet, ORC) go through the same functions. A value that does not fit
raises InventoryError with its file and line; a column that the report lacks comes back as nulls.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import InventoryError
from noria.manifests.inventory.files import MD5_BYTES
from noria.manifests.inventory.rows import ReportRows, fold
from noria.manifests.schema import INVENTORY_SCHEMA

MOMENT = pa.timestamp("ms", tz="UTC")
YEAR_1_MS, YEAR_9999_MS = -62_135_596_800_000, 253_370_764_800_000
"""What a date can be: from the start of the one to the start of the other."""
CRC64_BYTES = 8
FAR = 2**31 - 1
"""The end for binary_slice: past every value."""

HEX_PAIRS = [high + low for high in "0123456789ABCDEFabcdef" for low in "0123456789ABCDEFabcdef"]
HEX_CODES = pa.array([pair.encode() for pair in HEX_PAIRS], pa.binary())
HEX_BYTES = pa.array([bytes.fromhex(pair) for pair in HEX_PAIRS], pa.binary())

JSON_LINES = json.JSONEncoder(sort_keys=True, separators=(",\n", ":"), ensure_ascii=False)

Convert = Callable[[pa.Array], pa.Array]
"""Works on each value alone, and raises ValueError (as Arrow does) if one does not fit."""


def column(rows: ReportRows, *names: str) -> pa.Array | None:
    """The first of these columns that the report has, or None.

    Text comes as pa.string(), checked to be UTF-8, with null for an empty value.
    """
    for name in names:
        found = rows.columns.get(fold(name))
        if found is None or pa.types.is_null(found.type):
            continue
        if pa.types.is_dictionary(found.type):
            found = found.dictionary_decode()
        if not _is_text(found.type):
            return found
        found = _converted(rows, found, _utf8, f"{name} is not UTF-8")
        if pc.index(found, "").as_py() >= 0:
            found = pc.if_else(pc.equal(found, ""), None, found)
        return found
    return None


def required(rows: ReportRows, name: str) -> pa.Array:
    """A column that the import cannot do without."""
    found = column(rows, name)
    if found is None:
        raise InventoryError(f"{rows.file}: has no column {name}; add it to the inventory's fields")
    return found


def texts(rows: ReportRows, *names: str) -> pa.Array:
    """Text; an empty value is null."""
    found = column(rows, *names)
    if found is None:
        return pa.nulls(rows.count, pa.string())
    _expect(rows, found, names[0], _is_text)
    return found


def keys(rows: ReportRows, name: str, *, url_encoded: bool = False) -> pa.Array:
    """Object names: none is empty or holds a NUL. `url_encoded` undoes %XX, and + for a space."""
    found = required(rows, name)
    _expect(rows, found, name, _is_text)
    empty = pc.index(found.is_valid(), False).as_py()
    if empty >= 0:
        raise rows.refuse(empty, f"{name} is empty")
    if url_encoded:
        found = _converted(rows, found, _url_decoded, f"{name} is not URL-encoded UTF-8")
    if b"\0" in _joined(found.cast(pa.binary())).to_pybytes():
        nul = pc.index(pc.match_substring(found, "\0"), True).as_py()
        raise rows.refuse(nul, f"{name} holds a NUL")
    return found


def whole_numbers(rows: ReportRows, name: str) -> pa.Array:
    """int64, 0 or more; null stays null."""
    found = required(rows, name)
    _expect(rows, found, name, lambda kind: _is_text(kind) or pa.types.is_integer(kind))
    return _converted(rows, found, _whole_numbers, f"{name} is not a whole number of 0 or more")


def moments(rows: ReportRows, name: str) -> pa.Array:
    """Points in time, from text, timestamps or integers.

    Text is ISO 8601 with its zone; timestamps without a zone are UTC; integers are Unix time in
    milliseconds.
    """
    found = column(rows, name)
    if found is None:
        return pa.nulls(rows.count, MOMENT)
    kinds = (_is_text, pa.types.is_timestamp, pa.types.is_int64)
    _expect(rows, found, name, lambda kind: any(fits(kind) for fits in kinds))
    return _converted(rows, found, _moments, f"{name} is not a date and time with its zone")


def flags(rows: ReportRows, name: str, *, true: str = "true", false: str = "false") -> pa.Array:
    """Booleans; text is `true` or `false`, in any case."""
    found = column(rows, name)
    if found is None:
        return pa.nulls(rows.count, pa.bool_())
    _expect(rows, found, name, lambda kind: _is_text(kind) or pa.types.is_boolean(kind))
    if pa.types.is_boolean(found.type):
        return found

    def convert(values: pa.Array) -> pa.Array:
        lowered = pc.ascii_lower(values)
        if not pc.all(pc.is_in(lowered, value_set=pa.array([true, false, None]))).as_py():
            raise ValueError
        return pc.equal(lowered, true)

    return _converted(rows, found, convert, f"{name} is neither {true} nor {false}")


def etags(rows: ReportRows, name: str) -> pa.Array:
    """ETags without quotes and without the W/ of a weak one."""
    found = texts(rows, name)
    if pc.any(pc.starts_with(found, "W/")).as_py():
        found = pc.replace_substring_regex(found, "^W/", "")
    return pc.ascii_trim(found, '"')


def md5s(rows: ReportRows, name: str) -> pa.Array:
    """MD5 sums of 16 bytes, from base64."""
    what = f"{name} is not an MD5 in base64"
    return _converted(rows, texts(rows, name), _md5s, what)


def crc64s(rows: ReportRows, name: str) -> pa.Array:
    """CRC64 sums as uint64, from base64 of 8 bytes, little endian as Azure writes them."""
    what = f"{name} is not a CRC64 in base64"
    return _converted(rows, texts(rows, name), _crc64s, what)


def json_objects(rows: ReportRows, name: str) -> pa.Array:
    """JSON objects of strings, as canonical JSON: sorted keys, no blanks."""
    what = f"{name} is not a JSON object of strings"
    return _converted(rows, texts(rows, name), _canonical, what)


def inventory_batch(columns: Mapping[str, pa.Array], count: int) -> pa.RecordBatch:
    """A batch in INVENTORY_SCHEMA; columns that are not given are null."""
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(count, field.type)
        for field in INVENTORY_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=INVENTORY_SCHEMA)


def _converted(rows: ReportRows, values: pa.Array, convert: Convert, what: str) -> pa.Array:
    try:
        return convert(values)
    except ValueError:
        # Arrow's message quotes the value, which may be an object's name.
        raise rows.refuse(_first_misfit(values, convert), what) from None


def _first_misfit(values: pa.Array, convert: Convert) -> int:
    """The first value that `convert` refuses; it is known that there is one."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(values.slice(low, middle - low))
        except ValueError:
            high = middle
        else:
            low = middle
    return low


def _expect(
    rows: ReportRows, values: pa.Array, name: str, fits: Callable[[pa.DataType], bool]
) -> None:
    if not fits(values.type):
        raise InventoryError(f"{rows.file}: column {name} has the type {values.type}")


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind))


def _utf8(values: pa.Array) -> pa.Array:
    # Parquet and ORC readers hand bytes on as strings without looking at them.
    return values.cast(pa.binary()).cast(pa.string())


def _whole_numbers(values: pa.Array) -> pa.Array:
    if _is_text(values.type):
        # The cast alone would take hexadecimal digits.
        if not pc.all(pc.ascii_is_decimal(values), min_count=0).as_py():
            raise ValueError
        return values.cast(pa.int64())
    numbers = values.cast(pa.int64())
    if not pc.all(pc.greater_equal(numbers, 0), min_count=0).as_py():
        raise ValueError
    return numbers


def _moments(values: pa.Array) -> pa.Array:
    if not _is_text(values.type):
        moments = values.cast(MOMENT, safe=False)
        numbers = moments.cast(pa.int64())
        if not pc.all(
            pc.and_(pc.greater_equal(numbers, YEAR_1_MS), pc.less(numbers, YEAR_9999_MS)),
            min_count=0,
        ).as_py():
            raise ValueError
        return moments
    try:
        return values.cast(MOMENT)
    except pa.ArrowInvalid:
        # Azure writes up to 7 digits of a second; the cast takes no more than the unit holds.
        return pc.replace_substring_regex(values, r"(\.\d{3})\d+", r"\1").cast(MOMENT)


def _md5s(values: pa.Array) -> pa.Array:
    return _where_known(values, _from_base64(values, MD5_BYTES))


def _crc64s(values: pa.Array) -> pa.Array:
    sums = _joined(_from_base64(values, CRC64_BYTES))
    # Arrow's integers are little endian in memory, as these are.
    numbers = pa.Array.from_buffers(pa.uint64(), len(values), [None, sums])
    return _where_known(values, numbers)


def _where_known(values: pa.Array, converted: pa.Array) -> pa.Array:
    return pc.if_else(values.is_valid(), converted, pa.scalar(None, converted.type))


def _from_base64(values: pa.Array, size: int) -> pa.Array:
    """Decode values that are base64 of `size` bytes each; nulls come back as zeros.

    One call decodes all: padding (=) becomes zeros (A), so that the values can stand in one row,
    and the bytes of the padding are cut off afterwards.
    """
    padding = -size % 3
    width = size + padding
    length = width // 3 * 4
    texts = pc.fill_null(values, "A" * (length - padding) + "=" * padding)
    fits = pc.and_(pc.equal(pc.binary_length(texts), length), pc.ends_with(texts, "=" * padding))
    if not pc.all(fits).as_py():
        raise ValueError
    zeros = b"A" * padding
    row = pc.binary_replace_slice(texts.cast(pa.binary()), length - padding, length, zeros)
    decoded = pa.py_buffer(binascii.a2b_base64(_joined(row), strict_mode=True))
    items = pa.Array.from_buffers(pa.binary(width), len(values), [None, decoded]).cast(pa.binary())
    if not pc.all(pc.equal(pc.binary_slice(items, size, width), b"\0" * padding)).as_py():
        raise ValueError
    return pc.binary_slice(items, 0, size)


def _joined(values: pa.Array) -> pa.Buffer:
    """All values behind each other."""
    lists = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    return pc.binary_join(lists, b"")[0].as_buffer()


def _canonical(values: pa.Array) -> pa.Array:
    encoded = values.dictionary_encode()
    distinct = _canonical_objects(encoded.dictionary.to_pylist())
    return pa.array(distinct, pa.string()).take(encoded.indices)


def _canonical_objects(texts: list[str]) -> list[str]:
    """All texts in one call each way: a call for each would take three times as long.

    No text can reach over a line end into the next one: JSON has no raw line end in a string and no
    bare 0 between the members of an object. Nor can it hide one: the count would not fit.
    """
    if not texts:
        return []
    try:
        found = json.loads("[" + ",\n0,\n".join(texts) + "]")
    except RecursionError:
        raise ValueError from None
    objects = found[0::2]
    if len(found) != 2 * len(texts) - 1 or {type(each) for each in objects} != {dict}:
        raise ValueError
    if {type(value) for each in objects for value in each.values()} - {str}:
        raise ValueError
    # Strings have no raw line end here either: these stand between objects or between members.
    lines = JSON_LINES.encode(objects)[1:-1].replace("},\n{", "}\n{")
    return lines.replace(",\n", ",").split("\n")


def _url_decoded(values: pa.Array) -> pa.Array:
    """Cut at each %, turn the two digits behind it into their byte, and join again."""
    pieces = pc.split_pattern(pc.replace_substring(values, "+", " ").cast(pa.binary()), "%")
    flat, owner = pieces.flatten(), pc.list_parent_indices(pieces)
    before = pa.concat_arrays([pa.array([-1], owner.type), owner[:-1]])
    plain = pc.not_equal(owner, before)  # the piece in front of a value's first %
    code = pc.index_in(pc.binary_slice(flat, 0, 2), value_set=HEX_CODES)
    if not pc.all(pc.or_(plain, code.is_valid())).as_py():
        raise ValueError
    rest = pc.binary_slice(flat, 2, FAR)
    flat = pc.if_else(plain, flat, pc.binary_join_element_wise(HEX_BYTES.take(code), rest, b""))
    joined = pc.binary_join(pa.ListArray.from_arrays(pieces.offsets, flat), b"")
    return joined.cast(pa.string())
