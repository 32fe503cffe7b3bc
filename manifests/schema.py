"""Arrow schemas of the files in a job directory, and of the rows that become a manifest."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1
"""Of the job directory as a whole: written to manifest.json, checked when a job is opened."""

INVENTORY_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.timestamp("ms", tz="UTC")),
        pa.field("version_id", pa.string()),
        pa.field("content_type", pa.string()),
        pa.field("content_encoding", pa.string()),
        pa.field("content_language", pa.string()),
        pa.field("content_disposition", pa.string()),
        pa.field("cache_control", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("tags", pa.string()),
        pa.field("content_md5", pa.binary()),
        pa.field("crc64nvme", pa.uint64()),
        pa.field("tier", pa.string()),
        pa.field("archive_status", pa.string()),
        pa.field("blob_type", pa.string()),
        pa.field("customer_key_sha256", pa.string()),
        pa.field("is_folder", pa.bool_()),
        pa.field("not_current", pa.string()),
        pa.field("legal_hold", pa.bool_()),
        pa.field("immutable_until", pa.timestamp("ms", tz="UTC")),
    ]
)
"""One row for each object that an inventory or a listing names.

    key             whole name in the container or bucket; freeze() makes it relative
    size            bytes; -1 if the inventory does not know it (key lists): such rows are looked
                    up before they are frozen
    etag            without quotes or W/
    metadata, tags  JSON object with sorted keys, compact separators; null if none are stated
    content_md5     16 bytes
    crc64nvme       whole object, as the source states it (Azure's Content-CRC64 is the same)
    tier            as the store spells it: Hot, Cool, Cold, Archive, STANDARD, GLACIER, ...
    blob_type       as the store spells it: BlockBlob, PageBlob, AppendBlob; a file system's entry
                    that cannot be moved has the Reason here: link, special_file,
                    name_not_utf8
    is_folder       hdi_isfolder stub
    not_current     null for a current object; else snapshot, version, deleted or delete_marker
"""

MANIFEST_SCHEMA = pa.schema(
    [
        *INVENTORY_SCHEMA,
        pa.field("target_key", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
"""A manifest file: INVENTORY_SCHEMA with `key` relative to the source's prefix, and two more.

    target_key  name below the target's prefix; null if it is the same as key
    reason      a manifests.model.Reason; null if the entry is to be moved

Rows are sorted by the UTF-8 bytes of key and unique; row group N of file M is one shard.
"""

PASS_MANIFEST_SCHEMA = pa.schema(
    [
        *MANIFEST_SCHEMA,
        pa.field("delta", pa.string()),
        pa.field("replaces", pa.string()),
    ]
)
"""A manifest file of a later pass: MANIFEST_SCHEMA, and two more.

    delta       a manifests.model.Delta: why this pass has the entry
    replaces    ETag of the object at the target that earlier passes wrote for this key; null if
                they wrote none

A row whose delta is `gone` is of an object that the source no longer has, and that is to be deleted
at the target: its other columns are those that its receipt had, as far as they are known.
"""

SHARDS_PER_FILE = 256
"""Row groups of one file of a manifest."""

SHARD_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("file", pa.int32(), nullable=False),
        pa.field("row_group", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("rows", pa.int32(), nullable=False),
        pa.field("units", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("units_per_lease", pa.int32(), nullable=False),
    ]
)
"""The fields of manifests.model.ShardPlan, and where its rows are. `bytes` is what will move."""

RECEIPT_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("target_key", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("cause", pa.string()),
        pa.field("message", pa.string()),
        pa.field("level", pa.string()),
        pa.field("level_reason", pa.string()),
        pa.field("source_etag", pa.string()),
        pa.field("source_version", pa.string()),
        pa.field("target_etag", pa.string()),
        pa.field("target_version", pa.string()),
        pa.field("txid", pa.string()),
        pa.field("crc64nvme", pa.uint64()),
        pa.field("chunk_bytes", pa.int64()),
        pa.field("chunks", pa.binary()),
        pa.field("root", pa.binary()),
        pa.field("parts", pa.int32(), nullable=False),
        pa.field("bytes_moved", pa.int64(), nullable=False),
        pa.field("attempt", pa.int64(), nullable=False),
        pa.field("finished_ms", pa.int64(), nullable=False),
        pa.field("changes", pa.string()),
        pa.field("delta", pa.string()),
        pa.field("guard", pa.string()),
    ]
)
"""Columns are the fields of manifests.model.Receipt, of the same names."""

FIRST_RECEIPT_SCHEMA = pa.schema(list(RECEIPT_SCHEMA)[:-3])
"""As earlier versions wrote it: changes were not noted then."""
SECOND_RECEIPT_SCHEMA = pa.schema(list(RECEIPT_SCHEMA)[:-2])
"""As versions wrote it that knew of one pass alone."""
RECEIPT_SCHEMAS = (RECEIPT_SCHEMA, SECOND_RECEIPT_SCHEMA, FIRST_RECEIPT_SCHEMA)
"""Each has the first columns of the one before it."""

PART_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("crc64nvme", pa.uint64(), nullable=False),
        pa.field("chunks", pa.binary(), nullable=False),
        pa.field("checked", pa.bool_(), nullable=False),
        pa.field("stated", pa.bool_(), nullable=False),
    ]
)
"""Columns are the fields of manifests.model.PartRecord."""

FIRST_PART_SCHEMA = PART_SCHEMA.remove(PART_SCHEMA.get_field_index("stated"))
"""As earlier versions wrote it: nothing was known to be stated then."""
