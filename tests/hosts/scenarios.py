"""The scenarios: what happens to hosts while they move a job, and what becomes of it.

`@scenario("name", "title")` makes one of a function that gets a HostScene. `later`: it is told by
`make partitions` alone, for it takes longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.hosts.bed import DRIVER, HEAD, STORES, A, B
from tests.hosts.host_faults import (
    CutOff,
    Flapping,
    Frozen,
    FullDisk,
    HostFault,
    LostWay,
    Severed,
    Slow,
    Unmounted,
    WrongClock,
    away_from_stores,
)
from tests.hosts.namespaces import NETWORK
from tests.hosts.scene import RATE, HostScene

ANOTHER_ADDRESS = f"{NETWORK}.33"
CLOCK_SECONDS = 1200.0
"""Servers of S3 allow fifteen minutes."""
DRAWN = "drawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    title: str
    play: Callable[[HostScene], None]
    in_tests: bool


SCENARIOS: list[Scenario] = []


def scenario(
    name: str, title: str, *, in_tests: bool = True
) -> Callable[[Callable[[HostScene], None]], Callable[[HostScene], None]]:
    def enter(play: Callable[[HostScene], None]) -> Callable[[HostScene], None]:
        SCENARIOS.append(Scenario(name=name, title=title, play=play, in_tests=in_tests))
        return play

    return enter


def _ended_by_b(scene: HostScene, fault: HostFault) -> None:
    """A is away, in one way or another, until B has ended the job."""
    scene.begin()
    with scene.during(fault):
        scene.hurry(B)
        scene.expect_done()
    scene.ask()


@scenario("cut", "a host is cut off, until the others have ended the job")
def cut(scene: HostScene) -> None:
    _ended_by_b(scene, CutOff(A))


@scenario("out", "nothing that a host sends to the head arrives; it reaches the stores")
def lost_on_the_way_out(scene: HostScene) -> None:
    _ended_by_b(scene, LostWay(A, HEAD))


@scenario("in", "nothing that the head sends to a host arrives; it reaches the stores")
def lost_on_the_way_in(scene: HostScene) -> None:
    _ended_by_b(scene, LostWay(HEAD, A))


@scenario("severed", "a host and the head do not reach each other; the stores reach both")
def severed(scene: HostScene) -> None:
    scene.begin()
    away, other = (A, B) if scene.has_upload(A) else (B, A)
    with scene.during(Severed(away, HEAD)):
        scene.hurry(other)
        scene.expect_done()
    scene.ask()
    scene.expect_nothing_open()


@scenario(
    "followed",
    "the driver dies while a host is severed from it; the next one starts at once",
    in_tests=False,
)
def followed(scene: HostScene) -> None:
    scene.timeout = 60.0  # a driver starts in a few seconds, well before the host has to stop
    scene.begin()
    with scene.during(Slow(A, RATE / 20, RATE), Severed(A, HEAD)):
        scene.kill_driver()
        scene.hurry(B)
        scene.run_again(HEAD)
        scene.expect_done()
        scene.expect_no_turns(A, B)
    scene.ask()


@scenario("frozen", "a host stands still, until the others have ended the job")
def frozen(scene: HostScene) -> None:
    _ended_by_b(scene, Frozen(A))


@scenario("stores", "a host reaches neither store, until the others have ended the job")
def without_stores(scene: HostScene) -> None:
    scene.begin(retry_seconds=5)
    with scene.during(away_from_stores(A)):
        scene.hurry(B)
        scene.expect_done()
    scene.ask()


@scenario("back", "a host is cut off for a third of the time-out, and goes on")
def back_in_time(scene: HostScene) -> None:
    scene.begin()
    with scene.during(CutOff(A)):
        scene.wait(scene.timeout / 3)
    scene.hurry()
    scene.expect_done()
    scene.ask()


@scenario("slow-clock", "the clock of a host is twenty minutes late")
def late_clock(scene: HostScene) -> None:
    _with_wrong_clock(scene, -CLOCK_SECONDS)


@scenario("fast-clock", "the clock of a host is twenty minutes ahead")
def early_clock(scene: HostScene) -> None:
    _with_wrong_clock(scene, CLOCK_SECONDS)


def _with_wrong_clock(scene: HostScene, seconds: float) -> None:
    scene.prepare()
    scene.hurry()
    with scene.during(WrongClock(A, seconds)):
        scene.start()
        scene.expect_done()
    scene.ask()


@scenario("jump", "the clock of a host jumps by twenty minutes in the middle")
def jumping_clock(scene: HostScene) -> None:
    scene.begin()
    with scene.during(WrongClock(A, scene.dice.choice((-CLOCK_SECONDS, CLOCK_SECONDS)))):
        scene.hurry(B)
        scene.expect_done()
    scene.ask()


@scenario("driver", "the driver's host is cut off for less than the time-out")
def driver_away(scene: HostScene) -> None:
    scene.timeout = 20.0  # TCP tries again after 6 and 12 seconds: none of them is to be decisive
    scene.begin(driver=DRIVER)
    with scene.during(CutOff(DRIVER, driver=DRIVER)):
        scene.wait(0.55 * scene.timeout)
    scene.hurry()
    scene.expect_done()
    scene.ask()


@scenario(
    "driver-lost", "the driver's host is cut off for good; another one goes on", in_tests=False
)
def driver_lost(scene: HostScene) -> None:
    scene.begin(driver=DRIVER)
    with scene.during(CutOff(DRIVER, driver=DRIVER)):
        scene.expect_stopped("control store")
        scene.hurry()
        scene.run_again(HEAD)
        scene.expect_done()
    scene.ask()


@scenario(
    "store-lost", "Ray's control store is cut off, and its nodes are started anew", in_tests=False
)
def control_store_lost(scene: HostScene) -> None:
    scene.begin(driver=DRIVER)
    with scene.during(CutOff(HEAD, driver=DRIVER)):  # which still hears the workers
        scene.expect_stopped("control store")
    scene.bed.suspect(HEAD)
    scene.bed.ready()
    scene.hurry()
    scene.run_again(HEAD)
    scene.expect_done()
    scene.ask()


@scenario("flapping", "the link of a host goes out and in, again and again")
def flapping(scene: HostScene) -> None:
    scene.begin()
    with scene.during(Flapping(A, scene.dice.uniform(1.0, 3.0))):
        scene.hurry(B)
        scene.wait(1.5 * scene.timeout)
    scene.hurry()
    scene.expect_done()
    scene.ask()


@scenario("slow", "the line of a host is a hundred times as slow")
def slow(scene: HostScene) -> None:
    scene.begin()
    with scene.during(Slow(A, RATE / 100, RATE)):
        scene.hurry(B)
        scene.wait(scene.timeout)
    scene.hurry()
    scene.expect_done()
    scene.ask()


@scenario("disk", "the disk of a host is full, where its Ray keeps its session")
def full_disk(scene: HostScene) -> None:
    _ended_by_b(scene, FullDisk(A))


@scenario("unmounted", "the job directory is not mounted on a host")
def unmounted(scene: HostScene) -> None:
    scene.prepare()
    scene.hurry()
    with scene.during(Unmounted(A, scene.move.job.parent)):
        scene.start()
        scene.expect_done()
    scene.ask()


@scenario("rejoin", "a host dies, and comes back under another address")
def rejoin(scene: HostScene) -> None:
    bed = scene.bed
    scene.begin()
    before = bed.network.addresses[A]
    bed.fronts.slow_down(bed.network.addresses[B], RATE / 5)  # something is to be left for A
    bed.stop_node(A)
    scene.faults += 1
    try:
        bed.network.move_to(A, ANOTHER_ADDRESS)
        bed.start_node(A)
        scene.wait_for_bytes(A, least=0)
        scene.hurry()
        scene.expect_done()
        scene.ask()
    finally:
        bed.stop_node(A)
        bed.network.move_to(A, before)


@scenario(DRAWN, "two or three drawn faults, at drawn times", in_tests=False)
def drawn(scene: HostScene) -> None:
    dice = scene.dice
    scene.timeout = dice.uniform(8.0, 15.0)
    scene.begin(retry_seconds=10)
    plan = [
        (dice.uniform(0, 8), dice.uniform(2, 20), fault)
        for fault in dice.sample(_drawable(scene), dice.choice((2, 3)))
    ]
    steps = [(begin, True, n) for n, (begin, _, _) in enumerate(plan)]
    steps += [(begin + lasts, False, n) for n, (begin, lasts, _) in enumerate(plan)]
    began: dict[int, float] = {}
    start = time.monotonic()
    try:
        for moment, begins, number in sorted(steps):
            scene.wait(max(0.0, start + moment - time.monotonic()))
            if begins:
                began[number] = scene.start_fault(plan[number][2])
            else:
                scene.end_fault(plan[number][2], began.pop(number))
    finally:
        for number, moment in began.items():
            scene.end_fault(plan[number][2], moment)
    scene.hurry()
    scene.expect_done_at_last(tries=3)
    scene.ask()


def _drawable(scene: HostScene) -> list[HostFault]:
    """One of each kind, so that no two of them undo each other."""
    host = scene.dice.choice((A, B))
    other = B if host == A else A
    clock = scene.dice.choice((-CLOCK_SECONDS, CLOCK_SECONDS))
    faults: list[HostFault] = [
        scene.dice.choice((CutOff(host), Flapping(host, scene.dice.uniform(0.5, 4.0)))),
        LostWay(other, HEAD),
        LostWay(HEAD, host),
        LostWay(STORES, other),
        away_from_stores(host),
        Frozen(scene.dice.choice((A, B))),
        Slow(other, RATE / scene.dice.choice((10, 100)), RATE),
        WrongClock(host, clock),
        FullDisk(other),
    ]
    return faults
