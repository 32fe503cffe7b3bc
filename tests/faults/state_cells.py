"""F19 and F47 to F56: processes die, disks fill, credentials end; the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.cells import ProxiedMove, Scene, cell
from tests.faults.read_cells import expect_all_moved
from tests.support.fault_proxy.rules import (
    Fault,
    Operation,
    ProxiedRequest,
    lose_answer,
    meanwhile,
    on,
    refuse,
    reset,
    stall,
)
from tests.support.moves import expect_no_worker_left, kill_one, plain
from tests.support.processes import (
    GATEWAY,
    LOCAL_WORKER,
    RAY_WORKER,
    descendants,
    wait_until,
)
from tests.support.small_disk import SmallDisk

MIB = 1 << 20
PART = 8 * MIB
"""As the digests' chunks."""


def drawn_move(scene: Scene, **run: object) -> ProxiedMove:
    """One object of several parts, and small ones."""
    specs = [
        plain("large", scene.dice.randint(3, 5) * PART + scene.dice.randrange(1, PART)),
        *(plain(f"small/{n:03}", scene.dice.randrange(1, 50_000)) for n in range(60)),
    ]
    return scene.move(
        specs,
        plan={"part_bytes": PART},
        run={"workers": 2, "streams": 2, "journal_seconds": 0.1, **run},
    )


def run_until_hit(
    scene: Scene,
    proxied: ProxiedMove,
    operation: Operation,
    what: str,
    *options: str,
    skip: int = 0,
) -> tuple[int, str, str]:
    """Start a run; when that request of the large object comes, kill `what` before it goes on."""
    started: list[subprocess.Popen[str]] = []
    families: list[tuple[int, str]] = []

    def kill() -> None:
        families.extend(descendants(started[0].pid))
        kill_one(started[0], what)
        time.sleep(0.1)

    fault = Fault(match=on(operation, name="/large"), action=meanwhile(kill), skip=skip)
    proxied.target.add(fault)
    started.append(proxied.move.start("run", proxied.job_file, "--json", *options))
    out, err = started[0].communicate(timeout=100)
    expect_no_worker_left(families)
    assert fault.hits == 1, "the fault point was reached"
    assert "Traceback" not in err, err
    proxied.printed += [out, err]
    return started[0].returncode, out, err


def killed_at(scene: Scene, operation: Operation, what: str, *options: str, skip: int = 0) -> None:
    """Killed at one point, then run again: right, and little is sent twice."""
    proxied = drawn_move(scene)
    run_until_hit(scene, proxied, operation, what, *options, skip=skip)
    done = proxied.run()
    proxied.expect_all(done, kills=1)
    again = proxied.moved_bytes() - sum(spec.size for spec in proxied.move.specs)
    in_flight = 2 * 2 * PART
    journal = 2 * 2 * PART
    assert again <= in_flight + journal + 60 * 50_000, f"I5, I6: {again} bytes were sent again"


@cell("F47a", "a worker is killed when it opens an upload", whole=True)
def worker_killed_at_create(scene: Scene) -> None:
    killed_at(scene, Operation.CREATE, LOCAL_WORKER)


@cell("F47b", "a worker is killed when it sends a part", whole=True)
def worker_killed_at_part(scene: Scene) -> None:
    killed_at(scene, Operation.PART, LOCAL_WORKER, skip=scene.dice.randrange(4))


@cell("F47c", "a worker is killed when it completes an object", whole=True)
def worker_killed_at_complete(scene: Scene) -> None:
    killed_at(scene, Operation.COMPLETE, LOCAL_WORKER)


@cell("F47d", "a worker on Ray is killed when it sends a part", whole=True)
def ray_worker_killed_at_part(scene: Scene) -> None:
    killed_at(scene, Operation.PART, RAY_WORKER, "--ray", skip=scene.dice.randrange(4))


@cell("F48a", "the driver is killed", whole=True)
def driver_killed(scene: Scene) -> None:
    killed_at(scene, Operation.PART, "driver", skip=scene.dice.randrange(4))


@cell("F48b", "the power goes: journals lose their tails, or end in garbage", whole=True)
def power_cut(scene: Scene) -> None:
    proxied = drawn_move(scene)
    run_until_hit(scene, proxied, Operation.PART, "driver", skip=2)
    for journal in sorted(proxied.move.job.glob("journal/workers/*/*.journal")):
        whole = journal.read_bytes()
        kept = whole[: scene.dice.randint(len(whole) // 2, len(whole))]
        journal.write_bytes(kept + scene.dice.randbytes(scene.dice.randrange(50)))
        scene.evidence.faults += 1
    proxied.expect_all(proxied.run(), kills=1)


@cell("F49a", "the raylet is killed", whole=True)
def raylet_killed(scene: Scene) -> None:
    killed_at(scene, Operation.PART, "raylet/raylet", "--ray", skip=scene.dice.randrange(4))


@cell("F49b", "Ray's control store is killed", whole=True)
def control_store_killed(scene: Scene) -> None:
    killed_at(scene, Operation.PART, "gcs_server", "--ray", skip=scene.dice.randrange(4))


@cell("F49c", "the process that speaks to Ray is killed", whole=True)
def gateway_killed(scene: Scene) -> None:
    killed_at(scene, Operation.PART, GATEWAY, "--ray", skip=scene.dice.randrange(4))


@cell("F50", "two drivers on one job", whole=True)
def two_drivers(scene: Scene) -> None:
    proxied = drawn_move(scene)
    proxied.target.add(Fault(match=on(Operation.COMPLETE, name="/large"), action=stall(6.0)))
    first = proxied.move.start("run", proxied.job_file, "--json")
    wait_until((proxied.move.job / "epochs" / "0000000002.json").exists, "the first driver")
    second = proxied.move.start("run", proxied.move.job, "--json", "--metrics-address", "off")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2, err
    assert len(err.strip().splitlines()) == 1, err
    out, err = first.communicate(timeout=100)
    assert first.returncode == 0, (out, err)
    proxied.expect_all(json.loads(out), kills=1, exact=True)


@cell("F51", "the disk of the job directory is full", whole=True)
def journal_disk_full(scene: Scene) -> None:
    proxied = scene.move(
        [plain(f"k{n:04}", 100) for n in range(1500)], run={"workers": 1, "journal_seconds": 0.1}
    )
    disk = scene.folder / "disk"
    with SmallDisk(disk, "600k"):
        proxied.move.job = disk / "job"
        process = proxied.move.start(
            "copy", proxied.move.source, proxied.move.target, "--job", proxied.move.job, "--json"
        )
        out, err = process.communicate(timeout=100)
        assert process.returncode == 3, (out, err)
        assert "No space left on device" in out + err
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        done = proxied.move.noria("run", proxied.move.job, "--metrics-address", "off")
        proxied.expect_all(done, kills=1)


@cell("F52", "a worker stands still, and wakes up after its leases went to another", whole=True)
def zombie(scene: Scene) -> None:
    """What it does then counts for nothing.

    It neither seals, nor completes, nor aborts what the other one has.
    """
    proxied = drawn_move(scene, workers=1, heartbeat_timeout_seconds=3)
    stopped: list[int] = []
    started: list[subprocess.Popen[str]] = []

    def stop() -> None:
        family = descendants(started[0].pid)
        stopped.extend(pid for pid, command in family if LOCAL_WORKER in command)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    def wake() -> None:
        for pid in stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue

    proxied.target.add(
        Fault(match=on(Operation.PART, name="/large"), action=meanwhile(stop), skip=1),
        Fault(match=on(Operation.COMPLETE, name="/large"), action=meanwhile(wake)),
    )
    started.append(proxied.move.start("run", proxied.job_file, "--json"))
    try:
        out, err = started[0].communicate(timeout=100)
    finally:
        wake()
    assert started[0].returncode == 0, (out, err)
    assert stopped, "a worker was stopped"
    completes = proxied.target.seen(Operation.COMPLETE, name="/large")
    assert sum(exchange.happened for exchange in completes) == 1, "completed once"
    proxied.expect_all(json.loads(out), kills=1)


@cell("F53", "the process dies between commit and receipt")
def died_before_receipt(scene: Scene) -> None:
    case = scene.case("azure-s3")
    case.target.add(
        Fault(match=on(Operation.COMPLETE), action=lose_answer()),
        Fault(match=on(Operation.HEAD), action=refuse(403, "AccessDenied"), times=None),
    )
    case.run()
    assert "to/large" in case.job.target.listed()
    scene.evidence.faults += 2
    case.target.clear()
    sent = case.target.written_bytes()
    receipts = scene.finish(case)
    expect_all_moved(receipts)
    large = [e for e in case.target.seen(Operation.PART) if e.happened]
    assert len(large) == len({e.request.query["partNumber"] for e in large}), "no part twice"
    assert case.target.written_bytes() - sent <= sum(
        size for key, size in case.job.sizes.items() if key != "large"
    )


@cell("F54", "uploads are cleaned while a job lives, and next to others'", whole=True)
def janitor(scene: Scene) -> None:
    proxied = drawn_move(scene)
    client = scene.stage.seaweedfs.client()
    foreign = client.create_multipart_upload(Bucket=proxied.move.bucket, Key="elsewhere/theirs")
    proxied.target.add(Fault(match=on(Operation.COMPLETE, name="/large"), action=stall(3.0)))
    process = proxied.move.start("run", proxied.job_file, "--json")
    wait_until(lambda: any(proxied.move.job.glob("journal/*/*/*.journal")), "a first journal")
    janitor = proxied.move.start("clean", proxied.move.job, "--unclaimed")
    _, said = janitor.communicate(timeout=60)
    assert janitor.returncode == 2, "a living job is left alone"
    assert "another noria process" in said
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, (out, err)
    cleaned = proxied.move.noria("clean", proxied.move.job, "--unclaimed")
    assert (cleaned["foreign"], cleaned["failed"]) == (1, 0)
    left = client.list_multipart_uploads(Bucket=proxied.move.bucket).get("Uploads", ())
    assert [upload["UploadId"] for upload in left] == [foreign["UploadId"]], "I7"
    client.abort_multipart_upload(
        Bucket=proxied.move.bucket, Key="elsewhere/theirs", UploadId=foreign["UploadId"]
    )
    client.close()
    proxied.expect_all(json.loads(out), kills=1, exact=True)


@cell("F55", "a store is away for longer than a request is retried", whole=True)
def store_away(scene: Scene) -> None:
    """From a drawn request on nobody answers there: of the probe, of a transfer, of the end."""
    retry_seconds = 1.0
    proxied = drawn_move(scene, retry_seconds=retry_seconds)
    first = scene.dice.choice(
        [
            ("source", Operation.READ),
            ("target", Operation.PUT),
            ("target", Operation.PART),
            ("target", Operation.COMPLETE),
        ]
    )
    outage = Outage(on(first[1]), skip=scene.dice.randrange(3), seconds=3 * retry_seconds)
    action = scene.dice.choice([reset(), refuse(503, "SlowDown"), refuse(500, "InternalError")])
    getattr(proxied, first[0]).add(Fault(match=outage.claims, action=action, times=None))
    process = proxied.move.start("run", proxied.job_file, "--json")
    out, err = process.communicate(timeout=100)
    assert outage.began is not None
    if process.returncode == 3:  # while it was planned: that does not wait
        assert not list(proxied.move.job.glob("sealed/*")), (out, err)
        proxied.expect_all(proxied.run())
        return
    assert process.returncode == 0, (out, err)
    proxied.expect_all(json.loads(out))


@dataclass
class Outage:
    """Claims everything for `seconds`, from one of the requests that match on."""

    match: Callable[[ProxiedRequest], bool]
    skip: int
    seconds: float
    began: float | None = None

    def claims(self, request: ProxiedRequest) -> bool:
        if self.began is None and self.match(request):
            self.skip -= 1
            self.began = time.monotonic() if self.skip < 0 else None
        return self.began is not None and time.monotonic() < self.began + self.seconds


@cell("F19", "the source's signature expires in the middle", whole=True)
def expired_signature(scene: Scene) -> None:
    """One alert, a run that stops and says so; with another signature it goes on."""
    objects = 2000
    proxied = scene.move(
        [plain(f"k{n:04}", scene.dice.randrange(2000)) for n in range(objects)], run={"workers": 1}
    )
    expired = refuse(403, "AuthenticationFailed")
    reads = Fault(match=on(Operation.READ, Operation.LIST), action=expired, skip=100, times=None)
    proxied.source.add(reads)
    process = proxied.move.start("run", proxied.job_file, "--json")
    out, err = process.communicate(timeout=100)
    assert process.returncode in (2, 3), (out, err)
    assert len(err.strip().splitlines()) <= 2, err
    # What was in flight is refused, and each time it is asked whether the container is too.
    assert reads.hits < objects / 2, f"I11: {reads.hits} requests after it had expired"
    proxied.source.clear()
    proxied.expect_all(proxied.run(), kills=1)


@cell("F56", "the driver stands still for longer than its workers wait for it", whole=True)
def silent_driver(scene: Scene) -> None:
    """They begin nothing more, hand all back, and go on when it does."""
    proxied = scene.move(
        [plain(f"{n:04}/k", 100) for n in range(1000)],
        run={"workers": 1, "transfers": 2, "heartbeat_timeout_seconds": 6},
    )
    proxied.target.add(Fault(match=on(Operation.PUT, name="/k"), action=stall(0.2), times=None))
    process = proxied.move.start("run", proxied.job_file, "--json")
    wait_until(lambda: len(proxied.target.seen(Operation.PUT, name="/k")) > 10, "work under way")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        time.sleep(4.5)  # half the time-out, and what a request in flight may take
        begun = len(proxied.target.seen(Operation.PUT, name="/k"))
        time.sleep(2.0)
        assert len(proxied.target.seen(Operation.PUT, name="/k")) == begun, "nothing more begins"
    finally:
        os.kill(process.pid, signal.SIGCONT)
        proxied.target.clear()
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, (out, err)
    scene.evidence.faults += 1
    proxied.expect_all(json.loads(out))
