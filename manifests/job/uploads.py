"""The multipart uploads that PARTS shards feed, one file for each generation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory, flat_shard_folder, shard_folder
from noria.manifests.model import (
    Upload,
)
from noria.manifests.strict_json import read_strictly

_NAME = re.compile(r"uploads/(?:[0-9]{5,7}/)?([0-9]{8,10})/([0-9]{6,9})\.json")
"""As _names() gives them."""


def write_upload(directory: JobDirectory, shard: int, generation: int, upload: Upload) -> Upload:
    """Record the upload of a PARTS shard. The first of several workers wins; returns its upload."""
    name, earlier = _names(shard, generation)
    data = json.dumps(asdict(upload)).encode()
    if directory.read(earlier) is None and directory.write_once(name, data):
        return upload
    existing = read_upload(directory, shard, generation)
    assert existing is not None, "an upload record never disappears"
    return existing


def read_upload(directory: JobDirectory, shard: int, generation: int) -> Upload | None:
    for name in _names(shard, generation):
        data = directory.read(name)
        if data is not None:
            return _upload(name, data)
    return None


def _names(shard: int, generation: int) -> tuple[str, str]:
    """The name of a record, and the one that it has in a job of an earlier edition."""
    file = f"{generation:06d}.json"
    folders = shard_folder("uploads", shard), flat_shard_folder("uploads", shard)
    return f"{folders[0]}/{file}", f"{folders[1]}/{file}"


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
