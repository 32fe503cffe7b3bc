"""A store that somebody uses while Noria moves it, and commands that are killed meanwhile.

What stands is known from what was written: by a dictionary of bytes, and by clients that are none
of Noria's. Nothing here imports Noria's data plane.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from azure.storage.blob import ContainerClient

from tests.support.moves import NORIA, expect_no_worker_left
from tests.support.processes import LOCAL_WORKER, descendants

Objects = dict[str, bytes]
"""Key -> all of its bytes."""

COMMAND_SECONDS: Final = 60
SMALL: Final = 4_000
"""Most bytes of nearly all objects."""
MOST_OBJECTS: Final = 300
"""A store that has so many gets no new ones."""


class PlainStore(Protocol):
    """A store as its user sees it."""

    def put(self, key: str, body: bytes) -> object: ...
    def delete(self, key: str) -> object: ...
    def objects(self) -> Objects: ...


@dataclass(frozen=True, slots=True)
class PlainContainer:
    """An Azure container through Azure's own client."""

    client: ContainerClient

    def put(self, key: str, body: bytes) -> None:
        self.client.upload_blob(key, body, overwrite=True)

    def delete(self, key: str) -> None:
        self.client.delete_blob(key)

    def objects(self) -> Objects:
        names = [each.name for each in self.client.list_blobs()]
        return {name: self.client.download_blob(name).readall() for name in names}


@dataclass(frozen=True, slots=True)
class PlainBucket:
    """An S3 bucket through boto3."""

    client: Any
    bucket: str

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def objects(self) -> Objects:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {
            key: self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys
        }


@dataclass(frozen=True, slots=True)
class PlainFolder:
    """A folder through plain files: every other write is in place, the rest are renamed."""

    root: Path

    def put(self, key: str, body: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(body) % 2:
            path.write_bytes(body)
            return
        beside = self.root.parent / f"{self.root.name}.new"
        beside.write_bytes(body)
        beside.rename(path)

    def delete(self, key: str) -> None:
        (self.root / key).unlink()

    def objects(self) -> Objects:
        files = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files}


@dataclass(slots=True)
class User:
    """Somebody who writes to a store, and remembers what is there."""

    store: PlainStore
    dice: random.Random
    large_bytes: int = SMALL
    """Of the one object that is large."""
    holds: Objects = field(default_factory=dict)
    deeds: int = 0

    def fill(self, count: int) -> None:
        for _ in range(count):
            self._new()
        self._put("large", self.dice.randbytes(self.large_bytes))

    def act(self) -> None:
        """Do one thing: whichever the dice say."""
        self.dice.choice(
            (self._new, self._change, self._same_size, self._twice, self._delete, self._rename)
        )()
        self.deeds += 1

    def _key(self) -> str:
        return self.dice.choice(sorted(self.holds))

    def _new(self) -> None:
        if len(self.holds) < MOST_OBJECTS:
            key = f"{self.dice.choice('abc')}/{self.dice.randrange(1 << 30):08x}"
            self._put(key, self.dice.randbytes(self.dice.randrange(SMALL)))

    def _change(self) -> None:
        self._put(self._key(), self.dice.randbytes(self.dice.randrange(SMALL)))

    def _same_size(self) -> None:
        key = self._key()
        self._put(key, self.dice.randbytes(len(self.holds[key])))

    def _twice(self) -> None:
        """Two writes within one second, of one size."""
        key, size = self._key(), self.dice.randrange(SMALL)
        self._put(key, self.dice.randbytes(size))
        self._put(key, self.dice.randbytes(size))

    def _delete(self) -> None:
        if len(self.holds) > MOST_OBJECTS // 10:
            self._drop(self._key())

    def _rename(self) -> None:
        key = self._key()
        self._put(f"{key[:40]}-{self.dice.randrange(100)}", self.holds[key])
        self._drop(key)

    def _put(self, key: str, body: bytes) -> None:
        self.store.put(key, body)
        self.holds[key] = body

    def _drop(self, key: str) -> None:
        self.store.delete(key)
        del self.holds[key]


@contextlib.contextmanager
def busy(user: User, folder: Path, *, pause_seconds: float = 0.01) -> Iterator[str]:
    """Let the user act all the time; a shell command that makes it stop, and returns then.

    It acts no more once the block is left. What the user raises is raised there.
    """
    stop, stopped = folder / "stop", folder / "stopped"
    errors: list[BaseException] = []
    leaving = threading.Event()

    def live() -> None:
        try:
            while not stop.exists() and not leaving.wait(pause_seconds):
                user.act()
        except BaseException as error:  # noqa: BLE001 - raised by the test's own thread
            errors.append(error)
        finally:
            stopped.touch()

    thread = threading.Thread(target=live, name="user")
    thread.start()
    try:
        yield f"touch {stop}; until [ -e {stopped} ]; do sleep 0.01; done"
    finally:
        leaving.set()
        thread.join()
    if errors:
        raise errors[0]


@dataclass(slots=True)
class Commands:
    """Runs noria in processes of its own, and kills what the dice say."""

    environment: Mapping[str, str]
    dice: random.Random
    said: list[str] = field(default_factory=list)
    kills: int = 0

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [NORIA, *arguments, "--metrics-address", "off", "--json"],
            env=dict(self.environment),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
        """To its end; exit code and what it printed."""
        return self._ended(self.start(*arguments))

    def run_killed(
        self,
        *arguments: str | Path,
        times: int,
        within_seconds: float = 2.0,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run it so often, and kill the driver or a worker at a random moment of each run.

        Not again if it came to its end: `is_over` says so.
        """
        for _ in range(times):
            if is_over():
                return
            process = self.start(*arguments)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.dice.uniform(0.3, within_seconds))
            family = list(descendants(process.pid))
            workers = [pid for pid, command in family if LOCAL_WORKER in command]
            victim = self.dice.choice([process.pid, process.pid, *workers])
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    self.kills += 1
            code, _ = self._ended(process)
            assert code in (-signal.SIGKILL, 0, 1, 3), self.said[-1]
            expect_no_worker_left(family)

    def _ended(self, process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
        out, err = process.communicate(timeout=COMMAND_SECONDS)
        self.said.append(f"{process.args!r}\nexit {process.returncode}\n{out[-3000:]}\n{err}")
        assert "Traceback" not in err, self.said[-1]
        with contextlib.suppress(ValueError):
            return process.returncode, json.loads(out)
        return process.returncode, {}


def expect_equal(store: PlainStore, expected: Objects, what: str) -> None:
    """The store holds these objects, byte for byte, and no others."""
    found = store.objects()
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    other = sorted(key for key in expected.keys() & found.keys() if expected[key] != found[key])
    assert (missing, extra, other) == ([], [], []), f"{what}: missing, extra, other bytes"


def repeat_until(done: Callable[[], bool], what: str, *, most: int = 4) -> None:
    """Repeat a step whose repetition is what a person is told to do."""
    for _ in range(most):
        if done():
            return
    raise AssertionError(f"repeated {most} times, and still no end: {what}")
