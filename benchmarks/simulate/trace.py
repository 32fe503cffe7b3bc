"""A digest over every event and every command of a simulation: two runs are the same, or not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from struct import Struct

from noria.engine.scheduler.events import (
    Command,
    Event,
    Grant,
    LeaseCut,
    LeaseEnded,
    LoseWorker,
    NewGeneration,
    Quarantine,
    Revoke,
    SealLease,
    Split,
    WorkerReported,
)
from noria.manifests.model import LeaseResult

_PROGRESS = Struct("<qqqqqq")
_TIME = Struct("<d")


class Trace:
    """Take events and commands in order; `digest` says what they were."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.events = 0
        self.commands = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def add(self, event: Event, commands: Iterable[Command]) -> None:
        self.events += 1
        self._hash.update(_event_bytes(event))
        for command in commands:
            self.commands += 1
            self._hash.update(_command_text(command).encode())


def _event_bytes(event: Event) -> bytes:
    head = _TIME.pack(event.now)
    if isinstance(event, WorkerReported):
        pack = _PROGRESS.pack
        lines = (
            pack(item.shard, item.first, item.attempt, item.end, item.units_done, item.bytes_done)
            for item in event.progress
        )
        return b"".join((head, event.worker.encode(), *lines))
    kind = type(event).__name__
    match event:
        case LeaseEnded(worker=worker, result=result):
            text = f"{kind} {worker} {_result_text(result)}"
        case LeaseCut(worker=worker):
            text = f"{kind} {worker} {event.shard} {event.first} {event.attempt} {event.end}"
        case _:
            text = f"{kind} {getattr(event, 'worker', '')} {getattr(event, 'slots', '')}"
    return head + text.encode()


def _command_text(command: Command) -> str:
    kind = type(command).__name__
    match command:
        case Grant(worker=worker, lease=lease):
            place = f"{lease.shard} {lease.kind} {lease.first} {lease.end} {lease.generation}"
            return f"{kind} {worker} {place} {lease.attempt}\n"
        case SealLease(result=result):
            return f"{kind} {_result_text(result)}\n"
        case Revoke(worker=worker) | Split(worker=worker):
            end = command.end if isinstance(command, Split) else ""
            return f"{kind} {worker} {command.shard} {command.first} {command.attempt} {end}\n"
        case Quarantine():
            place = f"{command.shard} {command.kind} {command.first} {command.end}"
            return f"{kind} {place} {command.cause}\n"
        case LoseWorker(worker=worker, cause=cause):
            return f"{kind} {worker} {cause}\n"
        case NewGeneration(shard=shard, generation=generation):
            return f"{kind} {shard} {generation}\n"
    return f"{kind}\n"


def _result_text(result: LeaseResult) -> str:
    place = f"{result.shard} {result.kind} {result.first} {result.end}"
    return f"{place} {result.attempt} {result.generation} {result.how} {result.cause}"
