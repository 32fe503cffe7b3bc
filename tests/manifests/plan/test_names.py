from __future__ import annotations

import fnmatch
import string
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from noria.benchmarks.servers import S3Server
from noria.manifests.model import Reason
from noria.manifests.plan.names import TAG_DIGITS, escape_name, name_faults, stored_names
from noria.manifests.plan.providers import (
    CAREFUL_RULES,
    PROVIDERS,
    NameRules,
    ProviderLimits,
    known_name_rules,
    limits_for,
)

AWS = limits_for("aws")
patient = settings(deadline=None)  # a busy machine is no failure

odd_names = st.text(alphabet="aB/\\.%~\x00\n\x1f\x7fé😀", max_size=12)
long_names = st.builds(
    lambda start, middle, times, end: start + middle * times + end,
    odd_names,
    st.sampled_from(["a", "/", "é", "b/", "..", "%"]),
    st.integers(200, 1100),
    odd_names,
)
names = odd_names | long_names
all_rules = st.sampled_from([known_name_rules(name) for name in PROVIDERS]) | st.builds(
    NameRules,
    merges_slashes=st.booleans(),
    strips_leading_slash=st.booleans(),
    strips_trailing_slash=st.booleans(),
    backslash_is_slash=st.booleans(),
    drops_directory_body=st.booleans(),
    refuses_empty_segments=st.booleans(),
    refuses_dot_segments=st.booleans(),
    refuses_trailing_dots=st.booleans(),
    refuses_control_characters=st.booleans(),
    refuses_nul=st.booleans(),
    reserved_segments=st.sampled_from([(), ("a", "B*"), ("/a*", "b")]),
    max_segment_bytes=st.sampled_from([None, 64, 255]),
)
all_limits = st.sampled_from([limits_for(name) for name in PROVIDERS])


def faults(names: list[str], rules: NameRules, limits: ProviderLimits = AWS) -> list[str | None]:
    result: list[str | None] = name_faults(pa.array(names, pa.string()), limits, rules).to_pylist()
    return result


def expected_fault(name: str, limits: ProviderLimits, rules: NameRules) -> str | None:
    """The rules once more, name by name, without regular expressions."""
    if _too_long(name, limits, rules):
        return Reason.NAME_TOO_LONG
    if _refused(name.replace("\\", "/") if rules.backslash_is_slash else name, rules):
        return Reason.NAME_REFUSED
    stored = name.replace("\\", "/") if rules.backslash_is_slash else name
    while rules.merges_slashes and "//" in stored:
        stored = stored.replace("//", "/")
    stored = stored.lstrip("/") if rules.strips_leading_slash else stored
    stored = stored.rstrip("/") if rules.strips_trailing_slash else stored
    lost = rules.drops_directory_body and name.endswith("/")
    return Reason.NAME_MERGED if stored != name or lost else None


def _too_long(name: str, limits: ProviderLimits, rules: NameRules) -> bool:
    segments = name.split("/")
    longest = min(limits.max_segment_bytes or 9999, rules.max_segment_bytes or 9999)
    return (
        len(name.encode()) > (limits.max_key_bytes or 9999)
        or len(name) > (limits.max_key_characters or 9999)
        or len(segments) > (limits.max_segments or 9999)
        or any(len(segment.encode()) > longest for segment in segments)
    )


def _refused(name: str, rules: NameRules) -> bool:
    segments = name.split("/")
    controls = {chr(code) for code in (*range(1, 32), 127)}
    return (
        not name
        or (rules.refuses_empty_segments and "" in segments[:-1])
        or (rules.refuses_dot_segments and not {".", ".."}.isdisjoint(segments))
        or (rules.refuses_trailing_dots and any(part.endswith(".") for part in segments))
        or (rules.refuses_control_characters and not controls.isdisjoint(name))
        or (rules.refuses_nul and "\0" in name)
        or any(
            fnmatch.fnmatchcase(part, kept.removeprefix("/"))
            for kept in rules.reserved_segments
            for part in (segments[:1] if kept.startswith("/") else segments)
        )
    )


@patient
@given(st.lists(names, max_size=8), all_limits, all_rules)
def test_faults_are_what_the_rules_say(
    keys: list[str], limits: ProviderLimits, rules: NameRules
) -> None:
    assert faults(keys, rules, limits) == [expected_fault(key, limits, rules) for key in keys]


@patient
@given(names, all_rules)
def test_what_is_stored_is_stored_as_it_is(name: str, rules: NameRules) -> None:
    once = stored_names(pa.array([name]), rules)
    assert stored_names(once, rules) == once


@patient
@given(names, all_limits, all_rules, st.sampled_from(["", "to/", "Ωmega-", "deep/" * 30]))
def test_an_escaped_name_lands(
    key: str, limits: ProviderLimits, rules: NameRules, prefix: str
) -> None:
    assume(faults([prefix + "x"], rules, limits) == [None])
    escaped = escape_name(key, limits, rules, target_prefix=prefix)
    assert faults([prefix + escaped], rules, limits) == [None]
    assert escaped == escape_name(key, limits, rules, target_prefix=prefix)


@patient
@given(st.sets(names, min_size=2, max_size=20), all_limits, all_rules)
def test_two_keys_never_share_an_escaped_name(
    keys: set[str], limits: ProviderLimits, rules: NameRules
) -> None:
    escaped = {escape_name(key, limits, rules) for key in keys}
    assert len(escaped) == len(keys)


@patient
@given(odd_names)
def test_an_escaped_name_that_was_not_cut_can_be_decoded(key: str) -> None:
    escaped = escape_name(key, AWS, CAREFUL_RULES)
    body, mark, digits = escaped.rpartition("~")
    assert mark
    assert len(digits) == TAG_DIGITS
    assert set(digits) <= set(string.hexdigits.lower())
    segments = ["" if part == "%2F" else _percent_decoded(part) for part in body.split("/")]
    assert "/".join(segments) == key


def _percent_decoded(text: str) -> str:
    head, *rest = text.split("%")
    return head + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)


@pytest.mark.parametrize(
    ("key", "escaped"),
    [
        ("a//b", "a/%2F/b"),
        ("/a", "%2F/a"),
        ("dir/", "dir/%2F"),
        ("a\\b", "a%5Cb"),
        ("../100%", "%2E%2E/100%25"),
        ("a/.uploads/b", "a/%2Euploads/b"),
        ("cr\r", "cr%0D"),
    ],
)
def test_escapes_can_be_read(key: str, escaped: str) -> None:
    rules = known_name_rules("seaweedfs")
    assert escape_name(key, AWS, rules).rpartition("~")[0] == escaped


def test_a_name_is_counted_in_bytes_or_in_characters() -> None:
    name = "é" * 600
    assert faults([name], NameRules(), AWS) == [Reason.NAME_TOO_LONG]
    assert faults([name], NameRules(), limits_for("azure")) == [None]
    assert faults(["é" * 1025], NameRules(), limits_for("azure")) == [Reason.NAME_TOO_LONG]
    assert faults(["é" * 512], NameRules(), AWS) == [None]


def test_azure_holds_254_segments() -> None:
    azure = limits_for("azure")
    assert faults(["/".join("a" * 254), "/".join("a" * 255)], NameRules(), azure) == [
        None,
        Reason.NAME_TOO_LONG,
    ]


ODD = [
    *("a//b", "/lead", "back\\slash", "dir/", "./x", "p/./x", "a/../b", "..", ".", "x/.."),
    *("ctl\x01x", "tab\tx", "cr\rx", "nl\nx", "del\x7fx", "nul\x00x", "dot.", "seg./x"),
    *("e\u0301", "\u00e9", "\U0001f600", "%2F", "a?b#c+d", "trail /x", " lead", ".uploads/x"),
    *("in/.uploads/x", ".uploadsx", "s" * 255, "s" * 256, "é" * 128),
]
"""Names that some store is known to treat in its own way, and some that look as if."""


def test_known_rules_are_what_seaweedfs_does(seaweedfs: S3Server, s3_bucket: str) -> None:
    _compare_with_server(seaweedfs, s3_bucket, "seaweedfs")


def test_known_rules_are_what_rclone_does(rclone_s3: S3Server, rclone_bucket: str) -> None:
    # rclone hands a NUL to the disk in an encoding of its own, which is not ours to promise. A name
    # that it refuses as a path takes it a second: two of them are enough.
    leave = ["nul\x00x", "/lead", "p/./x", "a/../b", "..", ".", "x/.."]
    _compare_with_server(rclone_s3, rclone_bucket, "rclone", leave=leave)


def _compare_with_server(
    server: S3Server, bucket: str, provider: str, leave: list[str] | None = None
) -> None:
    client = server.client()
    keys = [key for key in ODD if key not in (leave or [])]
    predicted = dict(
        zip(keys, faults(keys, known_name_rules(provider), limits_for(provider)), strict=True)
    )
    assert {key: _holds(client, bucket, key) for key in keys} == {
        key: fault is None for key, fault in predicted.items()
    }
    client.close()


def _holds(client: Any, bucket: str, key: str) -> bool:
    """True where the store gives back under key, and lists, what was put there."""
    try:
        client.put_object(Bucket=bucket, Key=key, Body=b"body", Metadata={"mark": "1"})
        found = client.get_object(Bucket=bucket, Key=key)
        whole = found["Body"].read() == b"body" and len(found["Metadata"]) == 1
        listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    except client.exceptions.ClientError:
        return False
    for entry in listed:
        client.delete_object(Bucket=bucket, Key=entry["Key"])
    return whole and key in [entry["Key"] for entry in listed]


def test_a_probe_can_narrow_a_segment() -> None:
    rules = replace(NameRules(), max_segment_bytes=3)
    assert faults(["abc/abc", "abc/abcd"], rules) == [None, Reason.NAME_TOO_LONG]
