"""What can happen to hosts and to what lies between them, as small objects that begin and end.

    fault = CutOff(A)
    fault.begin(bed)
    ...
    fault.end(bed)

`silenced` are hosts whose workers cannot be heard by the driver, or stand still, while it lasts:
they have to stop in time. `harmed` are hosts whose nodes are replaced before the next job.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.hosts.bed import HEAD, STORES, WORKER_HOSTS, HostBed
from tests.hosts.namespaces import BedFailed, run, send


class HostFault(ABC):
    """By default nobody is silenced and nothing harmed."""

    __slots__ = ()

    @property
    @abstractmethod
    def title(self) -> str: ...

    @property
    def silenced(self) -> Collection[str]:
        return ()

    @property
    def harmed(self) -> Collection[str]:
        return ()

    @abstractmethod
    def begin(self, bed: HostBed) -> None: ...

    @abstractmethod
    def end(self, bed: HostBed) -> None:
        """A repeat does nothing."""


@dataclass(frozen=True, slots=True)
class CutOff(HostFault):
    """The host's cable is out; nobody is told."""

    host: str
    driver: str = HEAD

    @property
    def title(self) -> str:
        return f"{self.host} is cut off"

    @property
    def silenced(self) -> Collection[str]:
        return WORKER_HOSTS if self.host == self.driver else (self.host,)

    @property
    def harmed(self) -> Collection[str]:
        return (self.host,)

    def begin(self, bed: HostBed) -> None:
        bed.network.cut(self.host)

    def end(self, bed: HostBed) -> None:
        bed.network.join(self.host)


@dataclass(slots=True)
class LostWay(HostFault):
    """What one host sends to another is lost. The way back is whole."""

    sender: str
    receiver: str
    _laid: bool = False

    @property
    def title(self) -> str:
        return f"{self.receiver} does not get what {self.sender} sends"

    @property
    def silenced(self) -> Collection[str]:
        """TCP needs both ways, so one that is lost is enough."""
        ends = {self.sender, self.receiver}
        return ends - {HEAD} if HEAD in ends else ()

    @property
    def harmed(self) -> Collection[str]:
        return self.silenced

    def begin(self, bed: HostBed) -> None:
        bed.network.drop(self.sender, self.receiver)
        self._laid = True

    def end(self, bed: HostBed) -> None:
        if self._laid:
            bed.network.pass_on(self.sender, self.receiver)
            self._laid = False


@dataclass(slots=True)
class Severed(HostFault):
    """Two hosts do not reach each other; all others do."""

    one: str
    other: str
    _ways: list[LostWay] = field(init=False)

    def __post_init__(self) -> None:
        self._ways = [LostWay(self.one, self.other), LostWay(self.other, self.one)]

    @property
    def title(self) -> str:
        return f"{self.one} and {self.other} do not reach each other"

    @property
    def silenced(self) -> Collection[str]:
        return self._ways[0].silenced

    @property
    def harmed(self) -> Collection[str]:
        return self.silenced

    def begin(self, bed: HostBed) -> None:
        for way in self._ways:
            way.begin(bed)

    def end(self, bed: HostBed) -> None:
        for way in self._ways:
            way.end(bed)


@dataclass(slots=True)
class Flapping(HostFault):
    """The cable goes out and in again, a few seconds each.

    It silences nobody: the host is heard between, and nobody knows when.
    """

    host: str
    seconds: float
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def title(self) -> str:
        return f"the link of {self.host} flaps"

    @property
    def harmed(self) -> Collection[str]:
        return (self.host,)

    def begin(self, bed: HostBed) -> None:
        self._thread = threading.Thread(target=self._flap, args=(bed,), name="flap", daemon=True)
        self._thread.start()

    def _flap(self, bed: HostBed) -> None:
        while not self._stop.is_set():
            bed.network.cut(self.host)
            self._stop.wait(self.seconds)
            bed.network.join(self.host)
            self._stop.wait(self.seconds)

    def end(self, bed: HostBed) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


@dataclass(frozen=True, slots=True)
class Slow(HostFault):
    """The host's way to the stores carries little."""

    host: str
    bytes_per_second: float
    before: float
    """What it carries otherwise."""

    @property
    def title(self) -> str:
        return f"{self.host} is slow"

    def begin(self, bed: HostBed) -> None:
        bed.fronts.slow_down(bed.network.addresses[self.host], self.bytes_per_second)

    def end(self, bed: HostBed) -> None:
        bed.fronts.slow_down(bed.network.addresses[self.host], self.before)


@dataclass(frozen=True, slots=True)
class Frozen(HostFault):
    """Every process of the host stands still, as in a machine that is moved or swaps."""

    host: str

    @property
    def title(self) -> str:
        return f"{self.host} stands still"

    @property
    def silenced(self) -> Collection[str]:
        return (self.host,)

    @property
    def harmed(self) -> Collection[str]:
        return (self.host,)

    def begin(self, bed: HostBed) -> None:
        stopped: set[int] = set()
        # Until nothing is left that could start another.
        while new := set(bed.network.pids(self.host)) - stopped:
            send(signal.SIGSTOP, new)
            stopped |= new

    def end(self, bed: HostBed) -> None:
        send(signal.SIGCONT, bed.network.pids(self.host))


@dataclass(frozen=True, slots=True)
class WrongClock(HostFault):
    """The clock of the host's workers is off."""

    host: str
    seconds: float

    @property
    def title(self) -> str:
        return f"the clock of {self.host} is off by {self.seconds:+.0f} s"

    def begin(self, bed: HostBed) -> None:
        file = bed.clock_file(self.host)
        scratch = file.with_suffix(".new")
        scratch.write_text(str(self.seconds))
        scratch.replace(file)

    def end(self, bed: HostBed) -> None:
        bed.clock_file(self.host).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FullDisk(HostFault):
    """No byte more fits on the host's own disk, where its Ray keeps its session."""

    host: str

    @property
    def title(self) -> str:
        return f"the disk of {self.host} is full"

    @property
    def harmed(self) -> Collection[str]:
        return (self.host,)

    def begin(self, bed: HostBed) -> None:
        with self._filling(bed).open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))

    def end(self, bed: HostBed) -> None:
        self._filling(bed).unlink(missing_ok=True)

    def _filling(self, bed: HostBed) -> Path:
        return bed.network.disk(self.host) / "filling"


@dataclass(frozen=True, slots=True)
class Unmounted(HostFault):
    """The host finds an empty folder where all others find the job directory."""

    host: str
    folder: Path

    @property
    def title(self) -> str:
        return f"the job directory is not mounted on {self.host}"

    @property
    def harmed(self) -> Collection[str]:
        return (self.host,)

    def begin(self, bed: HostBed) -> None:
        self._inside(bed, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", self.folder)

    def end(self, bed: HostBed) -> None:
        with contextlib.suppress(BedFailed, KeyError):  # it has ended, and its mounts with it
            self._inside(bed, "umount", "-l", self.folder)

    def _inside(self, bed: HostBed, *command: str | Path) -> None:
        run("nsenter", f"--mount=/proc/{bed.node_pid(self.host)}/ns/mnt", *command)


def away_from_stores(host: str) -> Severed:
    """The host reaches neither store; its driver hears it."""
    return Severed(host, STORES)
