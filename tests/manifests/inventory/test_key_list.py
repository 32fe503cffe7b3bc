from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.manifests.errors import InventoryError
from noria.manifests.inventory import csv as inventory_text
from noria.manifests.inventory.reading import (
    InventoryKind,
    InventoryReport,
    LocalReportFiles,
    read_inventory,
)
from noria.manifests.schema import INVENTORY_SCHEMA


def opened(root: Path, text: bytes, *, prefix: str = "") -> InventoryReport:
    (root / "keys.txt").write_bytes(text)
    files = LocalReportFiles(root)
    return read_inventory(InventoryKind.KEYS, files, "keys.txt", container="c1", prefix=prefix)


def keys_of(report: InventoryReport) -> list[str]:
    return [key for batch in report.batches() for key in batch.column("key").to_pylist()]


def test_a_row_has_its_key_and_no_known_size(tmp_path: Path) -> None:
    report = opened(tmp_path, b"a\n")
    [batch] = report.batches()
    assert batch.schema == INVENTORY_SCHEMA
    expected = dict.fromkeys(INVENTORY_SCHEMA.names) | {"key": "a", "size": -1}
    assert batch.to_pylist() == [expected]
    assert report.created is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_names_as_they_are(tmp_path: Path, end: str, packed: bool) -> None:
    names = ["a,b", 'say "hi', " blanks ", "été/🏥", "100%25+", "cr\rinside", "#x"]
    text = "\ufeff" + end.join(["", *names[:3], "", "", *names[3:]])
    data = text.encode()
    assert keys_of(opened(tmp_path, gzip.compress(data) if packed else data)) == names


def test_names_below_another_prefix_are_left_out_and_counted(tmp_path: Path) -> None:
    report = opened(tmp_path, b"in/a\nout/b\nin/c", prefix="in/")
    for _ in range(2):
        assert keys_of(report) == ["in/a", "in/c"]
        summary = report.summary
        assert (summary.rows, summary.kept_rows, summary.other_prefix_rows) == (3, 2, 1)


def test_an_empty_list_is_empty(tmp_path: Path) -> None:
    for text in (b"", b"\n", b"\r\n\n"):
        assert keys_of(opened(tmp_path, text)) == []


names = st.text(
    st.characters(exclude_characters="\0\r\n\ufeff", exclude_categories=["Cs"]), min_size=1
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(wanted=st.lists(names), block_bytes=st.integers(40, 200))
def test_any_name_arrives_unchanged(tmp_path: Path, wanted: list[str], block_bytes: int) -> None:
    text = "\n\n".join(wanted).encode()
    longest = max((len(name.encode()) for name in wanted), default=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory_text, "BLOCK_BYTES", max(block_bytes, longest + 1))
        assert keys_of(opened(tmp_path, text)) == wanted


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (b"caf\xe9", "key is not UTF-8"),
        (b"a\0b", "holds a NUL"),
        (b"x" * 200, "the record has no end within 64 bytes"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, what: str
) -> None:
    monkeypatch.setattr(inventory_text, "BLOCK_BYTES", 64)
    report = opened(tmp_path, b"good\n\n" * 50 + bad + b"\ngood\n")
    with pytest.raises(InventoryError) as caught:
        keys_of(report)
    assert str(caught.value) == f"keys.txt, line 101: {what}"


def test_gzip_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    report = opened(tmp_path, gzip.compress(b"a\nb\n")[:-1])
    with pytest.raises(InventoryError, match=r"keys\.txt: the gzip data is damaged or cut short"):
        keys_of(report)


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="keys: is missing"):
        read_inventory(InventoryKind.KEYS, LocalReportFiles(tmp_path), "keys", container="c")
