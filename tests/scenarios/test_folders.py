"""A job whose target is a folder: full disks, killed workers, terminals that are gone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure.storage.blob import ContentSettings

from noria.manifests.errors import AccessDenied
from noria.workers.stores.local.store import LocalSettings, LocalStore
from noria.workers.stores.protocol import PageRequest
from tests.support.moves import NORIA, Move
from tests.support.processes import LOCAL_WORKER, descendants, wait_until

OBJECTS = 3_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(OBJECTS):
        (folder / f"{number:04}").write_bytes(b"x" * 5_000)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted disk with room for a tenth of the objects."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
    shutil.rmtree(disk)


def copy(source: Path, target: Path, job: Path) -> subprocess.Popen[str]:
    ends = [f"file://{source}", f"file://{target}", "--job", str(job)]
    return subprocess.Popen(
        [NORIA, "copy", *ends, "--metrics-address", "off", "--workers", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_full_target_stops_the_job_with_a_line_and_room_lets_it_go_on(
    source: Path, small_disk: Path, tmp_path: Path
) -> None:
    began = time.monotonic()
    process = copy(source, small_disk, tmp_path / "job")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 3, (out, err)
    assert time.monotonic() - began < 60
    stopped = json.loads(out)
    assert "No space left on device" in stopped["stopped"]
    assert "make room" in stopped["stopped"]
    assert set(stopped["outcomes"]) <= {"TRANSFERRED"}, "a full disk is no object's fault"
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    process = copy(source, small_disk, tmp_path / "job")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, (out, err)
    assert json.loads(out)["outcomes"] == {"TRANSFERRED": OBJECTS}


def test_what_was_stated_of_a_file_does_not_outlive_its_bytes(
    make_move: Callable[..., Move], tmp_path: Path
) -> None:
    """The MD5 and the time that came with an object are not those of a file that was edited."""
    move = make_move([])
    folder = tmp_path / "folder"
    folder.mkdir()
    with move.azurite.client() as client:
        container = client.get_container_client(move.container)
        for name in ("edited", "kept"):
            md5 = hashlib.md5(b"first", usedforsecurity=False).digest()
            stated = ContentSettings(content_md5=bytearray(md5))
            container.upload_blob(name, b"first", content_settings=stated)
    down = move.job_file(target={"url": folder.as_uri()})
    assert move.noria("run", down)["outcomes"] == {"TRANSFERRED": 2}
    (folder / "edited").write_bytes(b"second")
    os.utime(folder / "edited", (1_000_000_000, 1_000_000_000))
    move.job = tmp_path / "up"
    up = move.job_file(source={"url": folder.as_uri()}, target={"url": move.target})
    assert move.noria("run", up)["outcomes"] == {"TRANSFERRED": 2}
    s3 = move.seaweedfs.client()
    times = {
        name: float(s3.head_object(Bucket=move.bucket, Key=name)["Metadata"]["mtime"])
        for name in ("edited", "kept")
    }
    s3.close()
    assert times == {"edited": 1_000_000_000, "kept": (folder / "kept").stat().st_mtime}


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path) -> None:
    """A plan of the rest would lose what is in there. The kernel refuses nothing to root."""
    source = tmp_path / "source"
    (source / "closed").mkdir(parents=True)
    store = LocalStore(LocalSettings(root=source))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", raise_denied)
        with pytest.raises(AccessDenied, match="list each folder") as caught:
            store.list_page(PageRequest(prefix="closed/"))
    assert caught.value.key == "closed/"


@pytest.mark.parametrize("size", [1, 20 << 20])
@pytest.mark.parametrize("stands", ["folder", "link", "pipe"])
def test_what_stands_in_the_way_of_a_file_fails_it_at_once(
    stands: str, size: int, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (source / "name").write_bytes(b"x" * size)
    (source / "other").write_bytes(b"x")
    if stands == "folder":
        (target / "name").mkdir()
    elif stands == "link":
        (target / "name").symlink_to("nowhere")
    else:
        os.mkfifo(target / "name")
    process = copy(source, target, tmp_path / "job")
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    done = json.loads(out)
    assert done["outcomes"] == {"FAILED": 1, "TRANSFERRED": 1}, err


def raise_denied(_: int) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_drafts_of_a_killed_run_are_gone_after_the_next(source: Path, tmp_path: Path) -> None:
    target, job = tmp_path / "target", tmp_path / "job"
    target.mkdir()
    process = copy(source, target, job)
    wait_until(lambda: any(target.glob("0*")), "the first object")
    workers = [pid for pid, command in descendants(process.pid) if LOCAL_WORKER in command]
    for pid in [*workers, process.pid]:
        subprocess.run(["kill", "-KILL", str(pid)], check=False)
    process.communicate(timeout=30)
    for name in (".noria-draft-0123", ".noria-draft-4567/half"):
        path = target / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")  # as a worker leaves it that was killed in a write
    process = copy(source, target, job)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, (out, err)
    assert list(target.rglob(".noria*")) == []
    (target / ".noria-probe-mine").write_bytes(b"")
    reconciled = subprocess.run(
        [NORIA, "reconcile", job, "--json"], capture_output=True, text=True, check=False
    )
    assert json.loads(reconciled.stdout)["extra"] == 1, "nothing is hidden"


def test_clean_removes_drafts_and_says_how_many(source: Path, tmp_path: Path) -> None:
    target, job_file = tmp_path / "target", tmp_path / "job.toml"
    target.mkdir()
    job_file.write_text(f'[source]\nurl = "file://{source}"\n[target]\nurl = "file://{target}"\n')
    subprocess.run([NORIA, "plan", job_file], capture_output=True, check=True)

    def clean(*options: str) -> str:
        ended = subprocess.run(
            [NORIA, "clean", tmp_path / "job", *options],
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout

    assert json.loads(clean("--json"))["drafts"] == 0
    for name in (".noria-draft-0123", ".noria-draft-4567/half", "kept"):
        path = target / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"half")
    assert "2 unfinished files of killed runs removed" in clean()
    assert [path.name for path in target.iterdir()] == ["kept"]


def test_a_target_with_drafts_alone_is_empty(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / ".noria-draft-0123").write_bytes(b"half")
    job_file = tmp_path / "job.toml"
    job_file.write_text(f'[source]\nurl = "file://{source}"\n[target]\nurl = "file://{target}"\n')
    planned = subprocess.run(
        [NORIA, "plan", job_file, "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(planned.stdout)["target"]["was_empty"]


def test_a_terminal_that_is_gone_drains_the_run(source: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    process = copy(source, tmp_path / "target", tmp_path / "job")
    wait_until(lambda: any((tmp_path / "target").glob("0*")), "the first object")
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, (out, err)
    assert json.loads(out)["stopped"] == "stopped on request"


def test_a_target_that_is_a_file_is_refused_and_nothing_is_written_beside_it(
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "a").write_bytes(b"1")
    target.write_bytes(b"kept")
    ended = subprocess.run(
        [NORIA, "copy", source, target, "--job", tmp_path / "job", "--metrics-address", "off"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 2, ended.stderr
    assert "is not a folder" in ended.stderr
    assert not (tmp_path / "a").exists()
    assert target.read_bytes() == b"kept"
