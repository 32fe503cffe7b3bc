"""A folder as a store: nothing leads out of it, and what killed writers leave is seen and swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.manifests.errors import NoriaError, SourceUnreadable, TargetRefused
from noria.manifests.model import Attributes, PartRecord, Reason
from noria.workers.digest import crc64nvme
from noria.workers.stores.local.files import draft
from noria.workers.stores.local.store import LocalSettings, LocalStore
from noria.workers.stores.protocol import DRAFT_PREFIX, PageRequest
from tests.support.moves import NORIA

BODY = memoryview(b"moved")
CRC = crc64nvme(BODY)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store at `root`, in which `link` leads to the folder `victim` beside it."""
    for name in ("root", "victim"):
        (tmp_path / name).mkdir()
    (tmp_path / "victim" / "x").write_bytes(b"theirs")
    (tmp_path / "root" / "link").symlink_to("../victim")
    return LocalStore(LocalSettings(root=tmp_path / "root"))


def put(store: LocalStore, key: str) -> None:
    store.put_object(key, BODY, attributes=Attributes(), txid="job.0.0.1", crc64nvme=CRC)


def complete(store: LocalStore, key: str) -> None:
    upload_id = store.create_upload(key, attributes=Attributes(), txid="job.0.0.1", size=5)
    part = store.put_part(key, upload_id, 1, BODY, size=5, crc64nvme=lambda: CRC)
    store.complete_upload(
        key,
        upload_id,
        [PartRecord(number=1, size=5, etag=part.etag, crc64nvme=CRC, chunks=b"")],
        size=5,
        crc64nvme=CRC,
        attributes=Attributes(),
        txid="job.0.0.1",
    )


def keys_of(store: LocalStore, prefix: str = "") -> list[str]:
    """What can be moved: the link itself is listed as one that can not."""
    page = store.list_page(PageRequest(prefix=prefix, deep=True))
    rows = page.batch.select(["key", "blob_type"]).to_pylist()
    assert all(row["blob_type"] in (None, Reason.LINK) for row in rows)
    keys: list[str] = [row["key"] for row in rows if row["blob_type"] is None]
    return sorted([*keys, *(key for below in page.prefixes for key in keys_of(store, below))])


@pytest.mark.parametrize("write", [put, complete])
@pytest.mark.parametrize("key", ["link/new", "link/deep/new", "link/x"])
def test_nothing_is_written_through_a_link(
    store: LocalStore, tmp_path: Path, write: Callable[[LocalStore, str], None], key: str
) -> None:
    with pytest.raises(TargetRefused, match="symbolic link"):
        write(store, key)
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["x"]
    assert (tmp_path / "victim" / "x").read_bytes() == b"theirs"


def test_nothing_is_read_listed_or_deleted_through_a_link(
    store: LocalStore, tmp_path: Path
) -> None:
    with pytest.raises(SourceUnreadable, match="symbolic link"):
        store.head("link/x")
    with pytest.raises(SourceUnreadable, match="symbolic link"):
        store.read_object("link/x", into=memoryview(bytearray(6)), etag=None)
    assert keys_of(store) == []
    assert keys_of(store, "link/") == []
    store.delete_object("link/x")
    assert (tmp_path / "victim" / "x").exists()


def test_a_link_that_is_a_file_is_not_followed(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "root" / "file").symlink_to("../victim/x")
    with pytest.raises(SourceUnreadable, match="symbolic link"):
        store.head("file")
    with pytest.raises(NoriaError):
        put(store, "file/below")
    put(store, "file")
    assert (tmp_path / "victim" / "x").read_bytes() == b"theirs"
    assert (tmp_path / "root" / "file").read_bytes() == bytes(BODY)


def test_an_upload_that_is_a_link_is_none(store: LocalStore, tmp_path: Path) -> None:
    upload_id = "0" * 32
    (tmp_path / "victim" / "upload.json").write_text('{"key": "k", "started_ms": 0}')
    (tmp_path / "root" / f".noria-upload-{upload_id}").symlink_to("../victim")
    assert list(store.list_uploads("")) == []
    assert store.list_parts("k", upload_id) is None
    store.abort_upload("k", upload_id)
    assert (tmp_path / "victim" / "x").exists()


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to("real")
    store = LocalStore(LocalSettings(root=tmp_path / "named"))
    store.check_access()
    put(store, "a/b")
    assert keys_of(store) == ["a/b"]
    assert (tmp_path / "real" / "a" / "b").read_bytes() == bytes(BODY)


def test_a_job_writes_nothing_out_of_its_target(tmp_path: Path) -> None:
    """The kind's own case: `link/x` at the source, and a link of that name at the target."""
    for name in ("source/link", "target", "victim"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "source" / "link" / "x").write_bytes(b"moved")
    (tmp_path / "source" / "other").write_bytes(b"moved")
    (tmp_path / "target" / "link").symlink_to("../victim")
    ends = [f"file://{tmp_path}/source", f"file://{tmp_path}/target"]
    ended = subprocess.run(
        [NORIA, "copy", *ends, "--job", f"{tmp_path}/job", "--metrics-address", "off", "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "symbolic link" in ended.stdout
    assert list((tmp_path / "victim").iterdir()) == []
    assert (tmp_path / "target" / "other").read_bytes() == b"moved"


KILLED = """
import os, signal, sys
from pathlib import Path
from noria.manifests.model import Attributes
from noria.workers.stores.local.store import LocalSettings, LocalStore

store = LocalStore(LocalSettings(root=Path(sys.argv[1])))
upload_id = store.create_upload("k", attributes=Attributes(), txid="", size=10)
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "put":
    store.put_object("k", memoryview(b"half"), attributes=Attributes(), txid="", crc64nvme=0)
import shutil
shutil.rmtree = lambda *name, **options: os.kill(os.getpid(), signal.SIGKILL)
store.abort_upload("k", upload_id)
"""


@pytest.mark.parametrize("how", ["put", "abort"])
def test_what_a_killed_writer_leaves_is_listed_and_then_removed(
    store: LocalStore, tmp_path: Path, how: str
) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "root", how], check=False)
    assert ended.returncode == -signal.SIGKILL
    left = keys_of(store)
    assert len(left) == 1
    assert left[0].startswith(".noria-draft-")
    assert store.head(left[0]) is not None
    store.remove_drafts()
    store.remove_drafts()
    assert keys_of(store) == []
    uploads = list(store.list_uploads(""))
    assert len(uploads) == (how == "put"), "what is a whole upload is not a draft"


def test_the_drafts_of_a_living_writer_stay(store: LocalStore, tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = os.open(root, os.O_PATH)
    with draft(folder, DRAFT_PREFIX) as (_, name):
        store.remove_drafts()
        assert keys_of(store) == []
        assert (root / name).exists()
    os.close(folder)
    assert not (root / name).exists()


def test_only_noria_s_own_two_names_are_hidden(store: LocalStore, tmp_path: Path) -> None:
    """Canaries of a killed probe, and whoever calls a file so, are seen."""
    below = tmp_path / "root" / ".noria-probe-0123456789ab"
    below.mkdir()
    for path in (below / "canary", tmp_path / "root" / ".noria-mine"):
        path.write_bytes(b"")
    assert keys_of(store) == [".noria-mine", ".noria-probe-0123456789ab/canary"]
    assert keys_of(store, "/.noria-mine") == []


@pytest.mark.parametrize(
    "value",
    [b"\xff garbage", b"[1]", b"null", b'{"txid": 5}', b'{"txid": "a", "tags": {"x": 1}}', b"{}"],
)
def test_an_attribute_of_others_says_nothing(
    store: LocalStore, tmp_path: Path, value: bytes
) -> None:
    path = tmp_path / "root" / "k"
    path.write_bytes(b"x")
    os.setxattr(path, "user.noria", value)
    head = store.head("k")
    assert head is not None
    assert head.txid is None


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300])
def test_a_time_that_no_file_can_have_is_refused(store: LocalStore, seconds: float) -> None:
    attributes = Attributes(modified_seconds=seconds)
    with pytest.raises(TargetRefused, match="modification time"):
        store.put_object("k", BODY, attributes=attributes, txid="", crc64nvme=CRC)
    assert store.head("k") is None
