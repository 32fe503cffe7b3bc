"""Rows of an inventory, as short as a test wants to write them, and manifests of them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import Manifest
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.providers import NameRules, limits_for
from noria.manifests.schema import INVENTORY_SCHEMA

Row = dict[str, Any]

FULL_ROW: Row = {
    "key": "dir/é.txt",
    "size": 12,
    "etag": "0x8DC",
    "last_modified": 1_700_000_000_123,
    "version_id": "v1",
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "content_language": "fr",
    "content_disposition": "inline",
    "cache_control": "no-store",
    "metadata": '{"a":"b"}',
    "tags": '{"t":"u"}',
    "content_md5": b"\0" * 16,
    "crc64nvme": 2**64 - 1,
    "tier": "Hot",
    "archive_status": "x",
    "blob_type": "BlockBlob",
    "customer_key_sha256": "abc",
    "is_folder": False,
    "not_current": None,
    "legal_hold": True,
    "immutable_until": 1_800_000_000_000,
}


def inventory(rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    """A batch of INVENTORY_SCHEMA; what a row does not say is null, its size 0."""
    full = [{"size": 0, **row} for row in rows]
    return pa.RecordBatch.from_pylist(full, schema=INVENTORY_SCHEMA)


def plan(provider: str = "aws", rules: NameRules | None = None, **options: Any) -> PlanOptions:
    """Options for a target that stores every name, unless rules say otherwise."""
    return PlanOptions(limits=limits_for(provider), rules=rules or NameRules(), **options)


def freeze_rows(
    directory: Path, rows: Iterable[Row], options: PlanOptions | None = None, **more: Any
) -> Manifest:
    shutil.rmtree(directory, ignore_errors=True)
    return freeze([inventory(rows)], directory, options=options or plan(), **more)


def all_rows(manifest: Manifest) -> list[Row]:
    tables = [manifest.read_shard(shard.shard) for shard in manifest.shards()]
    rows: list[Row] = pa.concat_tables(tables).to_pylist() if tables else []
    return rows


def numbered(count: int, size: int = 1) -> list[Row]:
    return [{"key": f"object-{number:06d}", "size": size} for number in range(count)]


def shuffled(rows: list[Row], seed: int) -> list[Row]:
    return random.Random(seed).sample(rows, len(rows))
