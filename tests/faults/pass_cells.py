"""F57 to F66: passes over a source that lives, a cutover and a roll-back; the real command.

Besides what every cell asks:

    I14  what others wrote at the target is there, as they wrote it
    I15  what is unchanged at the source since the last pass is not read, nor looked at
    I16  what stands is made again from the seals, bit for bit
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from noria.benchmarks.servers.dataset import object_bytes
from noria.manifests.passes.migration import Migration
from tests.faults.cells import ProxiedMove, Scene, cell
from tests.faults.state_cells import MIB, PART, Outage
from tests.support import killed_call
from tests.support.fault_proxy.rules import (
    Action,
    Fault,
    Operation,
    meanwhile,
    on,
    refuse,
    replace_answer,
    reset,
)
from tests.support.living import Objects, PlainBucket, PlainContainer, expect_equal
from tests.support.moves import SEED, expect_no_worker_left, kill_one, plain
from tests.support.processes import LOCAL_WORKER, descendants
from tests.support.small_disk import SmallDisk

THEIRS = {"theirs/one": b"somebody else's", "theirs/two": b""}
"""At the target before the first pass."""
SMALL_OBJECTS = 40
COMMAND_SECONDS = 100


@dataclass(slots=True, kw_only=True)
class Living:
    """A migration whose first pass has ended, and what its source holds."""

    scene: Scene
    proxied: ProxiedMove
    source: PlainContainer
    target: PlainBucket
    holds: Objects
    unchanged: set[str] = field(default_factory=set)
    """Keys that stand since an earlier pass, as they are."""
    read_before: int = 0
    """Requests that the source had seen then."""
    kills: int = 0

    @property
    def job(self) -> Path:
        return self.proxied.move.job

    # -- the source and its user -------------------------------------------------------------------

    def put(self, key: str, body: bytes) -> None:
        self.source.put(key, body)
        self.holds[key] = body
        self.unchanged.discard(key)

    def drop(self, key: str) -> None:
        self.source.delete(key)
        del self.holds[key]
        self.unchanged.discard(key)

    def change(self) -> None:
        """New, changed, of the same size, gone and renamed objects; the large one is another."""
        dice = self.scene.dice
        self.unchanged = set(self.holds)
        self.read_before = len(self.proxied.source.log)
        small = sorted(self.holds.keys() - {"large"})
        dice.shuffle(small)
        for key in small[:4]:
            self.put(key, dice.randbytes(len(self.holds[key])))
        for key in small[4:8]:
            self.put(key, dice.randbytes(dice.randrange(1, 9_000)))
        for key in small[8:11]:
            self.drop(key)
        self.put(f"renamed/{dice.randrange(1 << 20)}", self.holds[small[11]])
        self.drop(small[11])
        for _ in range(4):
            self.put(f"new/{dice.randrange(1 << 20)}", dice.randbytes(dice.randrange(9_000)))
        self.put("large", dice.randbytes(PART + dice.randrange(1, MIB)))

    # -- commands ----------------------------------------------------------------------------------

    def start(self, *arguments: str | Path, killed: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """`killed`: as killed_call.py is told."""
        command: tuple[str | Path, ...] = (*arguments, "--metrics-address", "off", "--json")
        if not killed:
            return self.proxied.move.start(*command)
        return subprocess.Popen(
            [sys.executable, killed_call.__file__, *killed, *command],
            env=self.proxied.move.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        out, err = process.communicate(timeout=COMMAND_SECONDS)
        assert "Traceback" not in err, err
        self.proxied.printed += [out, err]
        return process.returncode, out + err

    def run(self, *arguments: str | Path, exit_code: int = 0) -> str:
        code, said = self.ended(self.start(*arguments))
        assert code == exit_code, f"exit {code}: {said}"
        return said

    def run_killed_at(
        self, place: str, when: Literal["before", "after"], *arguments: str | Path, call: int = 1
    ) -> None:
        process = self.start(*arguments, killed=(place, when, str(call)))
        code, said = self.ended(process)
        assert code == -signal.SIGKILL, f"the fault point was not reached: exit {code}: {said}"
        self.kills += 1

    def run_killed_on(
        self,
        fault: Callable[[Callable[[], None]], tuple[str, Fault]],
        what: str,
        *arguments: str | Path,
    ) -> None:
        """Kill the driver or a worker while a request is under way; `fault` says which."""
        started: list[subprocess.Popen[str]] = []
        families: list[tuple[int, str]] = []

        def kill() -> None:
            families.extend(descendants(started[0].pid))
            kill_one(started[0], what)

        end, rule = fault(kill)
        getattr(self.proxied, end).add(rule)
        started.append(self.start(*arguments))
        code, said = self.ended(started[0])
        expect_no_worker_left(families)
        assert rule.hits == 1, f"the fault point was not reached: {said}"
        assert code in ((-signal.SIGKILL,) if what == "driver" else (0, 3)), said
        self.kills += 1

    @property
    def sync(self) -> tuple[str | Path, ...]:
        return ("sync", self.job)

    def cutover(self, *, freeze: str = "true", switch: str = "true") -> tuple[str | Path, ...]:
        commands = ("--freeze-command", freeze, "--switch-command", switch)
        return ("cutover", self.job, *commands, "--approve-as", "A. Martin")

    @property
    def rollback(self) -> tuple[str | Path, ...]:
        return ("rollback", self.job, "--deletions", "mirror", "--yes")

    def kinds(self) -> list[str]:
        records = sorted((self.job / "history").glob("*.json"))
        return [json.loads(path.read_text())["kind"] for path in records]

    # -- questions ---------------------------------------------------------------------------------

    def ask(self, *, is_read: bool = True) -> None:
        """What must hold once all has ended. Not `is_read`: the source was written to as well."""
        expect_equal(self.target, {**self.holds, **THEIRS}, "I1, I4, I14")
        expect_equal(self.source, self.holds, "I10: the source is its user's")
        self.scene.ask_for_secrets(self.job, *self.proxied.printed)
        assert not is_read or self.proxied.source.methods() <= {"GET", "HEAD"}, "I10"
        read = {
            exchange.request.path.partition(f"/{self.proxied.move.container}/")[2]
            for exchange in self.proxied.source.log[self.read_before :]
            if exchange.operation in (Operation.READ, Operation.HEAD, Operation.TAGS)
        }
        assert not read & self.unchanged, f"I15: {sorted(read & self.unchanged)} were read"
        self.ask_for_states()
        evidence = self.scene.evidence
        evidence.faults += self.kills
        for proxy in (self.proxied.source, self.proxied.target):
            evidence.faults += sum(exchange.fault is not None for exchange in proxy.log)
        evidence.moved_bytes += self.proxied.target.written_bytes()
        evidence.invariants += 7

    def ask_for_states(self) -> None:
        migration = Migration(self.job)
        before = _states(self.job)
        assert before, "a pass notes what stands"
        for each in (migration, *(back.migration for back in migration.ways_back())):
            for number in range(1, each.last + 1):
                each.forget(number)
        assert not _states(self.job)
        migration.state(migration.last)
        again = _states(self.job)
        assert {name: again.get(name) for name in before} == before, "I16"


def _states(job: Path) -> dict[str, bytes]:
    """All files of all states of a migration and its ways back."""
    return {
        str(path.relative_to(job)): path.read_bytes()
        for path in sorted(job.rglob("*"))
        if path.is_file() and path.parent.parent.name == "state"
    }


def living(scene: Scene, *, job: Path | None = None, **run: Any) -> Living:
    """A first pass that has ended, beside objects of others at the target; then changes."""
    dice = scene.dice
    specs = [
        plain("large", PART + dice.randrange(1, MIB)),
        *(plain(f"small/{n:03}", dice.randrange(1, 9_000)) for n in range(SMALL_OBJECTS)),
    ]
    proxied = scene.move(specs)
    if job is not None:
        proxied.move.job = job
    proxied.move.job_file(
        plan={"part_bytes": PART, "shard_objects": 16},
        run={"workers": 2, "journal_seconds": 0.1, "retry_seconds": 1.0, **run},
        sync={"deletions": "mirror", "deletions_max": 1.0},
    )
    service = scene.stack.enter_context(scene.stage.azurite.client())
    client = scene.stack.enter_context(contextlib.closing(scene.stage.seaweedfs.client()))
    found = Living(
        scene=scene,
        proxied=proxied,
        source=PlainContainer(service.get_container_client(proxied.move.container)),
        target=PlainBucket(client, proxied.move.bucket),
        holds={each.key: object_bytes(SEED, each.key, 0, each.size) for each in specs},
    )
    for key, body in THEIRS.items():
        found.target.put(key, body)
    proxied.run()
    found.change()
    return found


# -- passes ----------------------------------------------------------------------------------------


def before(end: str, match: Callable[..., bool], skip: int = 0) -> Any:
    """The kill comes before the request reaches the store."""
    return lambda kill: (end, Fault(match=match, action=meanwhile(kill), skip=skip))


def after(end: str, match: Callable[..., bool], skip: int = 0) -> Any:
    """The store has done what was asked; the answer comes after the kill."""

    def fault(kill: Callable[[], None]) -> tuple[str, Fault]:
        def answered(said: bytes) -> bytes:
            kill()
            return said

        return end, Fault(match=match, action=replace_answer(body=answered), skip=skip)

    return fault


def pass_killed_on(scene: Scene, fault: Any, *, driver_too: bool = True) -> None:
    found = living(scene)
    titles = ["driver", LOCAL_WORKER] if driver_too else [LOCAL_WORKER]
    found.run_killed_on(fault, scene.dice.choice(titles), *found.sync)
    found.run(*found.sync)
    found.ask()


def pass_killed_at(scene: Scene, *points: tuple[str, Literal["before", "after"]]) -> None:
    """At each of these points in turn, in the same pass; then it is brought to its end."""
    found = living(scene)
    for place, when in points:
        found.run_killed_at(place, when, *found.sync)
    found.run(*found.sync)
    found.ask()


@cell("F57a", "a pass is killed while it lists the source", whole=True)
def pass_killed_listing(scene: Scene) -> None:
    found = living(scene)
    found.run_killed_on(before("source", on(Operation.LIST)), "driver", *found.sync)
    found.run(*found.sync)
    found.ask()


@cell("F57b", "a pass is killed when its plan is frozen", whole=True)
def pass_killed_freezing(scene: Scene) -> None:
    publish = "noria.manifests.manifest.freeze:_publish"
    planned = "noria.engine.passes:note_planned"
    pass_killed_at(
        scene, (planned, "before"), (planned, "after"), (publish, "before"), (publish, "after")
    )


@cell("F57c", "killed between a replacement and its receipt", whole=True)
def pass_killed_replacing(scene: Scene) -> None:
    pass_killed_on(scene, after("target", on(Operation.PUT), scene.dice.randrange(4)))


@cell("F57d", "killed when a replacement of several parts completes", whole=True)
def pass_killed_completing(scene: Scene) -> None:
    moment = scene.dice.choice([before, after])
    pass_killed_on(scene, moment("target", on(Operation.COMPLETE, name="/large")))


@cell("F58", "killed between a deletion and its receipt", whole=True)
def pass_killed_deleting(scene: Scene) -> None:
    moment = scene.dice.choice([before, after])
    deletion = on(Operation.DELETE)

    def of_small(request: Any) -> bool:
        return deletion(request) and "/small/" in request.path

    pass_killed_on(scene, moment("target", of_small, scene.dice.randrange(4)))


@cell("F59a", "a pass is killed while it reconciles", whole=True)
def pass_killed_reconciling(scene: Scene) -> None:
    reconcile = "noria.engine.job:reconcile"
    pass_killed_at(scene, (reconcile, "before"), (reconcile, "after"))


@cell("F59b", "a pass is killed while it notes what stands", whole=True)
def pass_killed_folding(scene: Scene) -> None:
    state = "noria.manifests.passes.state"
    pass_killed_at(
        scene,
        (f"{state}:StateWriter.append", "after"),
        (f"{state}:StateWriter.finish", "before"),
        (f"{state}:settle_modes", "after"),
        (f"{state}:StateWriter.finish", "after"),
    )


@cell("F59c", "a pass is killed before and after the record of its end", whole=True)
def pass_killed_ending(scene: Scene) -> None:
    found = living(scene)
    ended = "noria.engine.passes:note_ended"
    found.run_killed_at(ended, "before", *found.sync)
    # Whether it has ended says its status; its record comes with the next pass.
    found.change()
    found.run_killed_at(ended, "after", *found.sync)
    assert found.kinds().count("pass_ended") == 3
    found.ask()


@cell("F65", "others write over what a pass would replace, delete or make", whole=True)
def others_in_the_way(scene: Scene) -> None:
    """Theirs stays until a person moves it away; no cutover goes on beside it."""
    found = living(scene)
    standing = found.target.objects()
    changed = sorted(key for key in found.holds if found.holds[key] != standing.get(key))
    gone = sorted(standing.keys() - found.holds.keys() - THEIRS.keys())
    in_the_way = {*scene.dice.sample(changed, 3), *scene.dice.sample(gone, 2), "large"}
    for key in in_the_way:
        found.target.put(key, b"theirs")
    found.run(*found.sync, exit_code=1)
    beside = dict.fromkeys(in_the_way, b"theirs")
    expect_equal(found.target, {**found.holds, **THEIRS, **beside}, "I14")
    switched = scene.folder / "switched"
    found.run(*found.cutover(switch=f"touch {switched}"), exit_code=1)
    expect_equal(found.target, {**found.holds, **THEIRS, **beside}, "I14")
    assert not switched.exists()
    for key in in_the_way:
        found.target.delete(key)
    found.kills += len(in_the_way)
    found.run(*found.sync)
    found.ask()


# -- cutover and roll-back -------------------------------------------------------------------------

RECORDS = ["frozen", "proving", "proved", "approved", "switched", "grace"]
"""What a cutover writes by itself, in order."""


@cell("F60a", "a cutover is killed before each of its records", whole=True)
def cutover_killed_before_records(scene: Scene) -> None:
    cutover_killed(scene, "before")


@cell("F60b", "a cutover is killed after each of its records", whole=True)
def cutover_killed_after_records(scene: Scene) -> None:
    cutover_killed(scene, "after")


def cutover_killed(scene: Scene, when: Literal["before", "after"]) -> None:
    found = living(scene)
    for number in range(len(RECORDS)):
        # What was not written is tried again: before means that the next run writes it first.
        call = 1 if when == "after" or number == 0 else 2
        found.run_killed_at("noria.engine.cutover:append", when, *found.cutover(), call=call)
    found.run(*found.cutover())
    own = [kind for kind in found.kinds() if kind in RECORDS]
    assert own == RECORDS, "each step is recorded once"
    found.ask()


@cell("F60c", "the commands of a cutover end noria itself", whole=True)
def cutover_killed_by_its_commands(scene: Scene) -> None:
    """They run again: a freeze and a switch may run twice."""
    found = living(scene)

    def once(name: str) -> str:
        flag = scene.folder / name
        return f"echo x >> {flag}; [ $(wc -l < {flag}) -gt 1 ] || kill -9 $PPID"

    cutover = found.cutover(freeze=once("freeze"), switch=once("switch"))
    for _ in range(2):
        code, said = found.ended(found.start(*cutover))
        assert code == -signal.SIGKILL, said
        found.kills += 1
    found.run(*cutover)
    for name in ("freeze", "switch"):
        assert (scene.folder / name).read_text() == "x\nx\n"
    assert [kind for kind in found.kinds() if kind in RECORDS] == RECORDS
    found.ask()


@cell("F60d", "a cutover is killed while it lists either end for its proof", whole=True)
def cutover_killed_proving(scene: Scene) -> None:
    found = living(scene)
    for place in ("compare_source", "reconcile_job"):
        for when in ("before", "after"):
            moment: Any = when
            found.run_killed_at(f"noria.engine.photo_finish:{place}", moment, *found.cutover())
    found.run(*found.cutover())
    found.ask()


@cell("F61", "somebody writes to the source after the freeze", whole=True)
def written_after_freeze(scene: Scene) -> None:
    """Before the proof it is found, and the switch does not run; after a pass it goes on."""
    found = living(scene)
    switched = scene.folder / "switched"
    cutover = found.cutover(switch=f"touch {switched}")
    found.run_killed_at("noria.engine.cutover:photo_finish", "before", *cutover)
    key = scene.dice.choice(sorted(found.unchanged))
    found.put(key, scene.dice.randbytes(len(found.holds[key])))
    said = found.run(*cutover, exit_code=1)
    assert "wrote to the source since the freeze" in said
    assert not switched.exists()
    found.run(*found.sync)
    found.run(*cutover)
    assert switched.exists()
    found.ask()


@cell("F62", "a roll-back is killed at each of its steps", whole=True)
def rollback_killed(scene: Scene) -> None:
    found = living(scene)
    found.run(*found.cutover())
    found.ask_for_states()
    _use_target(found)
    rollback = "noria.engine.rollback"
    for place, when in (
        ("write_reversed", "before"),
        ("write_reversed", "after"),
        ("job_parts", "after"),
        ("JobDirectory.create", "before"),
        ("JobDirectory.create", "after"),
    ):
        moment: Any = when
        found.run_killed_at(f"{rollback}:{place}", moment, *found.rollback)
    change = after("source", on(Operation.PUT, Operation.DELETE))
    found.run_killed_on(change, scene.dice.choice(["driver", LOCAL_WORKER]), *found.rollback)
    if "rolled_back" not in found.kinds():
        for place in ("WayBack.note_end", "append"):
            moment = "before"
            found.run_killed_at(f"{rollback}:{place}", moment, *found.rollback)
        found.run(*found.rollback)
    assert found.kinds().count("rolled_back") == 1
    # Whatever lies at the target comes along: nobody can say what of it users rely on.
    found.holds |= THEIRS
    found.ask(is_read=False)


@cell("F66", "others write to the source after the switch", whole=True)
def others_at_the_source(scene: Scene) -> None:
    """A roll-back replaces and deletes nothing of theirs, and ends once it is moved away."""
    found = living(scene)
    found.run(*found.cutover())
    stood = dict(found.holds)
    _use_target(found)
    changed = sorted(key for key in stood if found.holds.get(key, stood[key]) != stood[key])
    gone = sorted(stood.keys() - found.holds.keys())
    in_the_way = {scene.dice.choice(changed), scene.dice.choice(gone), "later/0"}
    beside = dict.fromkeys(in_the_way, b"theirs")
    for key, body in {**beside, "elsewhere": b"theirs"}.items():
        found.source.put(key, body)
    for _ in range(2):
        found.run(*found.rollback, exit_code=1)
        expected = {**found.holds, **THEIRS, **beside, "elsewhere": b"theirs"}
        expect_equal(found.source, expected, "I14")
        assert "rolled_back" not in found.kinds()
    for key in in_the_way:
        found.source.delete(key)
    found.kills += len(in_the_way)
    found.run(*found.rollback)
    found.source.delete("elsewhere")
    found.holds |= THEIRS
    found.ask(is_read=False)


def _use_target(found: Living) -> None:
    """New, changed and gone objects at the target, which is what users have now."""
    dice = found.scene.dice
    keys = sorted(found.holds)
    dice.shuffle(keys)
    found.unchanged = set()
    for key in keys[:5]:
        found.holds[key] = dice.randbytes(dice.randrange(9_000))
        found.target.put(key, found.holds[key])
    for key in keys[5:8]:
        found.target.delete(key)
        del found.holds[key]
    for number in range(3):
        found.holds[f"later/{number}"] = dice.randbytes(dice.randrange(9_000))
        found.target.put(f"later/{number}", found.holds[f"later/{number}"])


# -- stores and disks ------------------------------------------------------------------------------


def away(scene: Scene, match: Callable[..., bool]) -> Fault:
    """From a drawn request on nobody answers for three seconds."""
    outage = Outage(match, skip=scene.dice.randrange(2), seconds=3.0)
    action: Action = scene.dice.choice([reset(), refuse(503, "SlowDown")])
    return Fault(match=outage.claims, action=action, times=None)


@contextlib.contextmanager
def _hit(proxy: Any, rule: Fault) -> Iterator[None]:
    proxy.add(rule)
    yield
    assert rule.hits, "the store was away"


@cell("F63a", "the source is away during a pass", whole=True)
def source_away_in_a_pass(scene: Scene) -> None:
    found = living(scene)
    operation = scene.dice.choice([Operation.LIST, Operation.READ])
    with _hit(found.proxied.source, away(scene, on(operation))):
        _repeat(found, *found.sync)
    found.ask()


@cell("F63b", "the target is away while a pass replaces and deletes", whole=True)
def target_away_in_a_pass(scene: Scene) -> None:
    found = living(scene)
    operation = scene.dice.choice([Operation.PUT, Operation.DELETE, Operation.LIST])
    with _hit(found.proxied.target, away(scene, on(operation))):
        _repeat(found, *found.sync)
    found.ask()


@cell("F63c", "either end is away during a cutover", whole=True)
def either_away_in_a_cutover(scene: Scene) -> None:
    found = living(scene)
    end = scene.dice.choice(["source", "target"])
    with _hit(getattr(found.proxied, end), away(scene, on(Operation.LIST))):
        _repeat(found, *found.cutover())
    assert [kind for kind in found.kinds() if kind in RECORDS] == RECORDS
    found.ask()


def _repeat(found: Living, *arguments: str | Path) -> None:
    """Exit code 3: nobody answers for now; the same command goes on."""
    for _ in range(4):
        code, said = found.ended(found.start(*arguments))
        if code == 0:
            return
        assert code == 3, said
    raise AssertionError(said)


@cell("F64a", "the disk is full during a pass", whole=True)
def disk_full_in_a_pass(scene: Scene) -> None:
    disk_full(scene, lambda found: found.sync)


@cell("F64b", "the disk is full during a cutover", whole=True)
def disk_full_in_a_cutover(scene: Scene) -> None:
    disk_full(scene, lambda found: found.cutover())


def disk_full(scene: Scene, command: Callable[[Living], tuple[str | Path, ...]]) -> None:
    """With less room than it takes, from none on: each time one line, and nothing is lost."""
    disk = scene.folder / "disk"
    with SmallDisk(disk, "50m"):
        found = living(scene, job=disk / "job")
        filler = disk / "filler"
        filler.touch()
        for left in (0, 16_384, scene.dice.randrange(16_384, 200_000)):
            _fill(filler, disk, left)
            code, said = found.ended(found.start(*command(found)))
            assert code in (0, 2, 3), said
            if code:
                assert "No space left on device" in said, said
                found.kills += 1
        filler.unlink()
        found.run(*command(found))
        found.ask()


def _fill(filler: Path, disk: Path, left: int) -> None:
    """Leave so many bytes of the disk."""
    filler.write_bytes(b"")
    free = os.statvfs(disk)
    with open(filler, "wb") as file:
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - left)))
