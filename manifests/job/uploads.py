"""The multipart uploads that PARTS shards feed, one file for each generation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory, upload_name
from noria.manifests.model import (
    Upload,
)
from noria.manifests.strict_json import read_strictly

_NAME = re.compile(r"uploads/([0-9]{8,10})/([0-9]{6,9})\.json")
"""As upload_name() writes it."""


def write_upload(directory: JobDirectory, shard: int, generation: int, upload: Upload) -> Upload:
    """Record the upload of a PARTS shard. The first of several workers wins; returns its upload."""
    name = upload_name(shard, generation)
    if directory.write_once(name, json.dumps(asdict(upload)).encode()):
        return upload
    existing = read_upload(directory, shard, generation)
    assert existing is not None, "an upload record never disappears"
    return existing


def read_upload(directory: JobDirectory, shard: int, generation: int) -> Upload | None:
    name = upload_name(shard, generation)
    data = directory.read(name)
    return None if data is None else _upload(name, data)


def read_uploads(directory: JobDirectory) -> Iterator[Upload]:
    """The uploads of all PARTS shards, of every generation."""
    for name in directory.names("uploads"):
        data = directory.read(name) if name.endswith(".json") else None
        if data is not None:
            yield _upload(name, data)


def upload_generations(directory: JobDirectory) -> dict[int, int]:
    """PARTS shard -> the newest generation of which an upload was opened."""
    newest: dict[int, int] = {}
    # Files of other names are not Noria's, and are ignored.
    for found in filter(None, map(_NAME.fullmatch, directory.names("uploads"))):
        shard, generation = map(int, found.groups())
        newest[shard] = max(newest.get(shard, 0), generation)
    return newest


def _upload(name: str, data: bytes) -> Upload:
    try:
        return read_strictly(Upload, data)
    except (ValueError, RecursionError):
        raise JobDirectoryError(f"{name} is damaged; restore it from a copy of the job") from None
