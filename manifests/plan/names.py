"""Names at the target: which ones it holds as they are, why not, and what to call the others.

A name here is whole: the target's prefix and the key below it. Checks run over Arrow columns; only
names that a first, cheap look found odd are looked at closely.
"""

from __future__ import annotations

import hashlib
import re

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.model import Reason
from noria.manifests.plan.providers import NameRules, ProviderLimits

TAG_DIGITS = 32
"""Hex digits of SHA-256 at the end of an escaped name: 128 bits."""


def name_faults(names: pa.Array, limits: ProviderLimits, rules: NameRules) -> pa.Array:
    """For each name NAME_TOO_LONG, NAME_REFUSED or NAME_MERGED, or null if it lands as it is."""
    odd = _odd(names, limits, rules)
    faults = pa.nulls(len(names), pa.string())
    if not pc.any(odd).as_py():
        return faults
    close = names.filter(odd)
    found = pc.if_else(
        _merged(close, rules), Reason.NAME_MERGED.value, pa.scalar(None, pa.string())
    )
    found = pc.if_else(_refused(close, rules), Reason.NAME_REFUSED.value, found)
    found = pc.if_else(_too_long(close, limits, rules), Reason.NAME_TOO_LONG.value, found)
    return pc.replace_with_mask(faults, odd, found)


def stored_names(names: pa.Array, rules: NameRules) -> pa.Array:
    """The names under which the target would store `names`."""
    if rules.backslash_is_slash:
        names = pc.replace_substring(names, "\\", "/")
    if rules.merges_slashes:
        names = pc.replace_substring_regex(names, "/+", "/")
    if rules.strips_leading_slash:
        names = pc.utf8_ltrim(names, "/")
    if rules.strips_trailing_slash:
        names = pc.utf8_rtrim(names, "/")
    return names


def escape_name(
    key: str, limits: ProviderLimits, rules: NameRules, *, target_prefix: str = ""
) -> str:
    """A name below target_prefix for a key that the target cannot hold: safe, and the key's alone.

    Each segment is percent-encoded if it could be misread: `%`, backslash and control characters
    always; dots that end a segment; the first character of a reserved segment. An empty segment
    becomes `%2F`. What is too long is cut. Then `~` and the first 32 hex digits of the SHA-256 of
    the key follow. Two keys never share a name: what is not cut can be decoded, and the digits tell
    apart what is. The caller checks that no other object has the name already: it may, if an
    earlier move made it.
    """
    tag = "~" + hashlib.sha256(key.encode()).hexdigest()[:TAG_DIGITS]
    reserved = re.compile(_reserved_pattern(rules))
    *folders, begun = target_prefix.split("/")
    room = None if limits.max_segments is None else max(1, limits.max_segments - len(folders))
    segments = [
        _escape_segment(segment, reserved=reserved.fullmatch(segment) is not None)
        for segment in key.split("/")[:room]
    ]
    longest = _least(limits.max_segment_bytes, rules.max_segment_bytes)
    if longest is not None:
        rooms = [longest] * len(segments)
        rooms[0] -= len(begun.encode())
        rooms[-1] -= len(tag)
        segments = [_cut(segment, room) for segment, room in zip(segments, rooms, strict=True)]
    path = "/".join(segments)
    whole = _least(limits.max_key_bytes, limits.max_key_characters)
    if whole is not None:
        path = _cut(path, whole - len(target_prefix.encode()) - len(tag))
    return path + tag


def _escape_segment(segment: str, *, reserved: bool) -> str:
    if not segment:
        return "%2F"
    escaped = re.sub(r"[%\\\x00-\x1f\x7f]", lambda found: _percent(found[0]), segment)
    bare = escaped.rstrip(".")
    escaped = bare + _percent(".") * (len(escaped) - len(bare))
    return _percent(segment[0]) + escaped[1:] if reserved and bare else escaped


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _reserved_pattern(rules: NameRules) -> str:
    """Matches a name from its start to a segment that the target keeps for itself.

    Both Python and RE2 take it.
    """
    patterns = []
    for kept in rules.reserved_segments:
        segment = kept.removeprefix("/")
        matched = re.escape(segment.removesuffix("*")) + ("[^/]*" if segment.endswith("*") else "")
        patterns.append(("^" if segment != kept else "(?:^|/)") + matched)
    return "|".join(patterns)


def _cut(text: str, size: int) -> str:
    """At most `size` bytes of text: cut between characters, not inside a %XX, no dot at the end."""
    data = text.encode()
    if len(data) <= size:
        return text
    cut = re.sub(r"%[0-9A-F]?\Z", "", data[: max(0, size)].decode(errors="ignore"))
    return f"{cut[:-1]}_" if cut.endswith(".") else cut


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _odd(names: pa.Array, limits: ProviderLimits, rules: NameRules) -> pa.Array:
    """True for every name that may have a fault, and for few others."""
    lengths = pc.binary_length(names)
    shortest = _least(
        limits.max_key_bytes,
        limits.max_key_characters,
        limits.max_segments,
        limits.max_segment_bytes,
        rules.max_segment_bytes,
    )
    odd = pc.equal(lengths, 0)
    if shortest is not None:
        odd = pc.or_(odd, pc.greater(lengths, shortest))
    pattern = "|".join((*_refused_patterns(rules), *_merged_patterns(rules)))
    if pattern:
        odd = pc.or_(odd, pc.match_substring_regex(names, pattern))
    return odd


def _refused_patterns(rules: NameRules) -> list[str]:
    """RE2. `^` and `\\z` are the ends of the name, even if it holds line ends."""
    patterns = {
        r"//|^/": rules.refuses_empty_segments,
        r"(?:^|/)\.\.?(?:/|\z)": rules.refuses_dot_segments,
        r"\.(?:/|\z)": rules.refuses_trailing_dots,
        r"[\x01-\x1f\x7f]": rules.refuses_control_characters,
        r"\x00": rules.refuses_nul,
    }
    reserved = rf"(?:{_reserved_pattern(rules)})(?:/|\z)"
    return [
        *(pattern for pattern, applies in patterns.items() if applies),
        *([reserved] if rules.reserved_segments else []),
    ]


def _merged_patterns(rules: NameRules) -> list[str]:
    patterns = {
        r"//": rules.merges_slashes,
        r"^/": rules.strips_leading_slash,
        r"/\z": rules.strips_trailing_slash or rules.drops_directory_body,
        r"\\": rules.backslash_is_slash,
    }
    return [pattern for pattern, applies in patterns.items() if applies]


def _refused(names: pa.Array, rules: NameRules) -> pa.Array:
    refused = pc.equal(pc.binary_length(names), 0)
    pattern = "|".join(_refused_patterns(rules))
    if not pattern:
        return refused
    # A name that is changed first is judged as what it becomes.
    becomes = pc.replace_substring(names, "\\", "/") if rules.backslash_is_slash else names
    return pc.or_(refused, pc.match_substring_regex(becomes, pattern))


def _merged(names: pa.Array, rules: NameRules) -> pa.Array:
    merged = pc.not_equal(stored_names(names, rules), names)
    if rules.drops_directory_body:
        merged = pc.or_(merged, pc.ends_with(names, "/"))
    return merged


def _too_long(names: pa.Array, limits: ProviderLimits, rules: NameRules) -> pa.Array:
    long = pc.is_null(names)  # all False: a name is never null
    if limits.max_key_bytes is not None:
        long = pc.or_(long, pc.greater(pc.binary_length(names), limits.max_key_bytes))
    if limits.max_key_characters is not None:
        long = pc.or_(long, pc.greater(pc.utf8_length(names), limits.max_key_characters))
    if limits.max_segments is not None:
        slashes = pc.count_substring(names, "/")
        long = pc.or_(long, pc.greater_equal(slashes, limits.max_segments))
    longest = _least(limits.max_segment_bytes, rules.max_segment_bytes)
    if longest is not None:
        long = pc.or_(long, _has_long_segment(names, longest))
    return long


def _has_long_segment(names: pa.Array, longest: int) -> pa.Array:
    segments = pc.split_pattern(names, "/")
    owners = pc.list_parent_indices(segments)
    long = pc.greater(pc.binary_length(pc.list_flatten(segments)), longest)
    rows = pc.indices_nonzero(pc.is_valid(names)).cast(owners.type)
    return pc.is_in(rows, value_set=owners.filter(long))
