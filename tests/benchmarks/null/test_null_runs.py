"""Between the null stores Noria, its peers and the loop move everything; how all is built."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xxhash

from noria.benchmarks.null import programs
from noria.benchmarks.null import stores as null_stores
from noria.benchmarks.null.programs import BuildFailed
from noria.benchmarks.null.stores import (
    BUCKET,
    CONTAINER,
    NullSink,
    measure_ceiling,
    run_loop,
    run_null_sink,
    run_null_source,
)
from noria.benchmarks.servers import ToolMissing, find_tool
from tests.support.null_objects import MIB, OBJECTS, RUN_SECONDS, needs_compiler

pytestmark = needs_compiler

NORIA = Path(sys.executable).with_name("noria")
TLS = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


# Noria and the peers.


@TLS
@pytest.mark.slow
def test_noria_moves_everything_from_one_to_the_other(tls: bool, tmp_path: Path) -> None:
    objects = {**OBJECTS, "several parts": 150_000_000}
    with run_null_source(objects.items(), tls=tls) as source, run_null_sink(tls=tls) as sink:
        environment = {**os.environ, **source.env(), **sink.env()}
        command: list[str | Path] = [NORIA, "copy", source.url, sink.url, "--job", tmp_path / "job"]
        done = run_tool([*command, "--metrics-address", "off", "--quiet", "--json"], environment)
        report = json.loads(done.stdout)
        assert (report["exit_code"], report["reconciled"], report["failed"]) == (0, True, 0)
        # The sink proved that it refuses a wrong checksum.
        assert report["levels"] == {"ingested": len(objects)}
        assert sizes_in(sink, BUCKET) == objects


def run_tool(
    command: list[str | Path], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def sizes_in(sink: NullSink, bucket: str) -> dict[str, int]:
    with contextlib.closing(sink.client()) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", [])}


@TLS
def test_rclone_moves_everything_and_finds_no_difference(tls: bool) -> None:
    with (
        run_null_source(OBJECTS.items(), tls=tls) as source,
        run_null_sink(tls=tls) as sink,
    ):
        environment = {
            **os.environ,
            **source.env(),  # SSL_CERT_FILE
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_SOURCE_TYPE": "azureblob",
            "RCLONE_CONFIG_SOURCE_CONNECTION_STRING": source.connection_string,
            "RCLONE_CONFIG_TARGET_TYPE": "s3",
            "RCLONE_CONFIG_TARGET_PROVIDER": "Other",
            "RCLONE_CONFIG_TARGET_ENDPOINT": sink.endpoint,
            "RCLONE_CONFIG_TARGET_ACCESS_KEY_ID": null_stores.ACCESS_KEY,
            "RCLONE_CONFIG_TARGET_SECRET_ACCESS_KEY": null_stores.SECRET_KEY,
        }
        ends = [f"source:{CONTAINER}", f"target:{BUCKET}"]
        cutoff = ["--s3-upload-cutoff", "10Mi"]  # one object goes in parts
        run_tool([find_tool("rclone"), "copy", *ends, *cutoff], environment)
        assert sizes_in(sink, BUCKET) == OBJECTS
        run_tool([find_tool("rclone"), "check", "--download", *ends], environment)


@TLS
def test_juicefs_moves_everything(tls: bool, tmp_path: Path) -> None:
    try:
        juicefs = find_tool("juicefs")
    except ToolMissing as missing:
        pytest.skip(str(missing))
    with (
        run_null_source(OBJECTS.items(), tls=tls) as source,
        run_null_sink(tls=tls) as sink,
    ):
        environment = {**os.environ, **source.env(), "HOME": str(tmp_path)}
        keys = f"{null_stores.ACCESS_KEY}:{null_stores.SECRET_KEY}"
        target = f"s3://{keys}@127.0.0.1:{sink.port}/{BUCKET}/"
        command: list[str | Path] = [juicefs, "sync", f"wasb://{CONTAINER}/", target, "--check-new"]
        plain = [] if tls else ["--no-https"]
        run_tool([*command, *plain, "--metrics", "127.0.0.1:0"], environment)
        assert sizes_in(sink, BUCKET) == OBJECTS


# The loop.


@TLS
@pytest.mark.parametrize("size", [1, 3 * MIB, 10 * MIB + 1])
def test_the_loop_copies_every_byte_and_hashes_it(tls: bool, size: int) -> None:
    part_bytes = 4 * MIB
    with run_null_source([("a", size)], tls=tls) as source, run_null_sink(tls=tls) as sink:
        ran = run_loop(source, sink, key="a", size=size, streams=2, part_bytes=part_bytes)
        with source.client() as client:
            whole = client.get_blob_client(CONTAINER, "a").download_blob().readall()
        assert sizes_in(sink, BUCKET) == {"loop-0": size, "loop-1": size}
    last_part = whole[(size - 1) // part_bytes * part_bytes :]
    assert ran.last_part_xxh3_128 == xxhash.xxh3_128_hexdigest(last_part)
    assert ran.size == 2 * size
    assert 0 < ran.cpu_seconds < 2 * ran.wall_seconds + 1


def test_the_loop_fails_where_the_source_is_too_short() -> None:
    with (
        run_null_source([("a", 10)]) as source,
        run_null_sink() as sink,
        pytest.raises(subprocess.CalledProcessError),
    ):
        run_loop(source, sink, key="a", size=11)


def test_the_ceiling_tells_the_loop_from_the_servers() -> None:
    [row] = measure_ceiling(False, size=1 << 30, stream_counts=(1,))
    assert (row.streams, row.tls) == (1, False)
    assert row.gb_per_second > 0
    for seconds in (row.loop_seconds_per_gb, row.source_seconds_per_gb, row.sink_seconds_per_gb):
        assert 0.01 < seconds < 10


# The programs.


def test_a_missing_header_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "FLAGS", ("-DANOTHER_PROGRAM",))  # none that is built already
    monkeypatch.setattr(programs, "_has_header", lambda compiler, header: False)
    with pytest.raises(BuildFailed, match="libssl-dev") as failure:
        programs.build("null-source")
    assert "\n" not in str(failure.value)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="there is no cc"):
        programs.build("null-source")


def test_xxhash_comes_from_debian_or_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(programs, "TOOLS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="libxxhash-dev"):
        programs.find_xxhash()
    (tmp_path / "usr/include/xxhash.h").write_text("")
    assert programs.find_xxhash() == tmp_path / "usr/include"


def test_a_program_is_built_once() -> None:
    program = programs.build("null-sink")
    built = program.stat().st_mtime_ns
    started = time.monotonic()
    assert programs.build("null-sink") == program
    assert program.stat().st_mtime_ns == built
    assert time.monotonic() - started < 5
