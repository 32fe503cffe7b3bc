"""Files that are written again right after they were moved, with as many bytes as before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import noria

SECOND = 10**9


def rewrite_in_place(file: Path, body: bytes) -> None:
    """Within the same second as before, by its time."""
    before = file.stat().st_mtime_ns
    file.write_bytes(body)
    again = before // SECOND * SECOND + (before + SECOND // 2) % SECOND
    os.utime(file, ns=(again, again))


def replace_with_its_time(file: Path, body: bytes) -> None:
    """As `cp -p` and `rsync -t` do: another file of the same time to the nanosecond."""
    before = file.stat()
    beside = file.with_name(f".{file.name}")
    beside.write_bytes(body)
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    beside.rename(file)
    assert file.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("rewrite", [rewrite_in_place, replace_with_its_time])
def test_the_next_pass_finds_them(tmp_path: Path, rewrite: Callable[[Path, bytes], None]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in "ab":
        (source / name).write_bytes(b"first")
    ends = {"source": source, "target": target}
    noria.plan(
        noria.job_config({role: {"url": place.as_uri()} for role, place in ends.items()}),
        tmp_path / "job",
    )
    assert noria.run(tmp_path / "job").exit_code == 0
    for number, body in enumerate((b"again", b"third")):
        rewrite(source / "a", body)
        report = noria.sync(tmp_path / "job")
        assert (report.number, report.exit_code) == (number + 2, 0)
        assert report.delta is not None
        assert (report.delta.objects["etag"], report.delta.objects["unchanged"]) == (1, 1)
        assert (target / "a").read_bytes() == body
