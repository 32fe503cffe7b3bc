"""Workers are shared fairly among datasets, whatever comes and goes; nobody starves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from noria.engine.fleet.fair_share import FairShare

NAMES = [f"d{number}" for number in range(8)]


@dataclass(slots=True)
class Simulated:
    """A dataset with so many seconds of work, of which each worker does one a second."""

    work: float
    priority: int = 0
    weight: float = 1.0
    most: int = 1
    """Workers that it can use."""
    asked: int = 0
    workers: int = 0
    taken: int = 0
    began: int | None = None
    ended: int | None = None


@dataclass(slots=True)
class SharedWorld:
    """Datasets on workers, second by second; each asks for what it can use."""

    workers: int
    datasets: Mapping[str, Simulated]
    at: Mapping[str, int] = field(default_factory=dict)
    """Name -> the second at which it comes; 0."""
    moves: int = 0
    idle: float = 0.0
    """Seconds of workers without work while somebody could have used one."""

    def run(self, seconds: int = 100_000) -> None:
        share = FairShare(self.workers)
        for now in range(seconds):
            for name, one in self.datasets.items():
                if self.at.get(name, 0) == now:
                    share.enter(name, priority=one.priority, weight=one.weight)
            self._ask(share, now)
            self._hand_out(share, now)
            self._work(share, now)
            if all(one.ended is not None for one in self.datasets.values()):
                return
        raise AssertionError(f"not at the end: {self.datasets}")

    def _ask(self, share: FairShare, now: int) -> None:
        for name, one in self.datasets.items():
            if one.ended is None and self.at.get(name, 0) <= now:
                for _ in range(one.most - one.workers - one.asked):
                    share.ask(name)
                    one.asked += 1

    def _hand_out(self, share: FairShare, now: int) -> None:
        while True:
            while (name := share.grant()) is not None:
                one = self.datasets[name]
                one.asked, one.workers = one.asked - 1, one.workers + 1
                one.began = now if one.began is None else one.began
            name = share.take_back()
            if name is None:
                break
            self.moves += 1
            self.datasets[name].workers -= 1
            share.give_back(name, taken=True)
        waiting = sum(one.asked for one in self.datasets.values() if one.ended is None)
        assert not (waiting and share.free), "a worker is idle while one is wanted"

    def _work(self, share: FairShare, now: int) -> None:
        for name, one in self.datasets.items():
            one.work -= one.workers
            if one.work <= 0 and one.ended is None and one.began is not None:
                one.ended = now
                share.leave(name)
                for _ in range(one.workers):
                    share.give_back(name)
                one.workers = one.asked = 0


def test_everything_of_one_class_gets_its_turn() -> None:
    many = {f"d{n:03}": Simulated(work=5) for n in range(100)}
    world = SharedWorld(workers=4, datasets=many)
    world.run()
    # Four at a time, five seconds each, in the order in which they came.
    assert [one.ended for one in many.values()] == [4 + 5 * (n // 4) for n in range(100)]
    assert world.moves == 0


def test_a_big_one_is_not_left_on_one_worker_at_the_end() -> None:
    datasets = {"big": Simulated(work=400, most=8)}
    datasets |= {f"small-{n:02}": Simulated(work=10) for n in range(28)}
    world = SharedWorld(workers=8, datasets=datasets)
    world.run()
    # 680 seconds of work on 8 workers are 85.
    assert datasets["big"].ended is not None
    assert datasets["big"].ended <= 90


def test_a_big_one_that_was_first_gives_back_what_others_wait_for() -> None:
    datasets = {"big": Simulated(work=1000, most=8)}
    datasets |= {f"late-{n}": Simulated(work=10) for n in range(7)}
    world = SharedWorld(8, datasets, at={f"late-{n}": 5 for n in range(7)})
    world.run()
    assert all(datasets[f"late-{n}"].began == 5 for n in range(7))
    assert world.moves == 7


def test_a_higher_priority_goes_first_and_a_lower_one_gets_what_is_left() -> None:
    datasets = {
        "low": Simulated(work=30, priority=0, most=4),
        "high": Simulated(work=30, priority=5, most=3),
    }
    SharedWorld(4, datasets).run()
    assert datasets["high"].ended == 9
    assert datasets["low"].ended is not None
    assert 9 < datasets["low"].ended <= 14


def test_a_higher_priority_that_comes_later_gets_workers_back() -> None:
    datasets = {
        "low": Simulated(work=100, most=2),
        "high": Simulated(work=10, priority=1, most=2),
    }
    SharedWorld(2, datasets, at={"high": 3}).run()
    assert datasets["high"].began == 3
    assert datasets["high"].ended == 7


def test_weights_share_what_two_could_use_alone() -> None:
    share = FairShare(8)
    for name, weight in (("one", 1.0), ("three", 3.0)):
        share.enter(name, priority=0, weight=weight)
        for _ in range(8):
            share.ask(name)
    while share.grant() is not None:
        pass
    assert (share.held("one"), share.held("three")) == (2, 6)
    assert share.take_back() is None


@settings(max_examples=200, deadline=None)
@given(
    workers=st.integers(1, 6),
    works=st.lists(
        st.tuples(
            st.integers(1, 60), st.integers(0, 2), st.sampled_from([0.5, 1.0, 4.0]),
            st.integers(1, 8), st.integers(0, 30),
        ),
        min_size=1,
        max_size=8,
    ),
)  # fmt: skip
def test_all_end_no_worker_idles_and_workers_do_not_go_back_and_forth(
    workers: int, works: list[tuple[int, int, float, int, int]]
) -> None:
    datasets = {
        name: Simulated(work=work, priority=priority, weight=weight, most=most)
        for name, (work, priority, weight, most, _) in zip(NAMES, works, strict=False)
    }
    at = {name: entry[4] for name, entry in zip(NAMES, works, strict=False)}
    world = SharedWorld(workers, datasets, at=at)
    world.run()
    # A worker moves because somebody came or ended, each time at most once for each worker.
    assert world.moves <= 2 * workers * len(datasets)


class ShareMachine(RuleBasedStateMachine):
    """Any calls that a pool may make, in any order, beside a model that only counts."""

    @initialize(workers=st.integers(1, 5))
    def begin(self, workers: int) -> None:
        self.workers = workers
        self.share = FairShare(workers)
        self.priorities: dict[str, int] = {}
        self.wanted: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.taken: list[str] = []
        self.left: set[str] = set()

    def _is_there(self, name: str) -> bool:
        return name in self.priorities and name not in self.left

    @rule(name=st.sampled_from(NAMES), priority=st.integers(0, 2), weight=st.floats(0.1, 5))
    def enter(self, name: str, priority: int, weight: float) -> None:
        if name not in self.priorities:
            self.share.enter(name, priority=priority, weight=weight)
            self.priorities[name] = priority
            self.wanted[name] = self.held[name] = 0

    @rule(name=st.sampled_from(NAMES))
    def ask(self, name: str) -> None:
        if self._is_there(name):
            self.share.ask(name)
            self.wanted[name] += 1

    @rule(name=st.sampled_from(NAMES))
    def withdraw(self, name: str) -> None:
        if self._is_there(name) and self.wanted[name]:
            self.share.withdraw(name)
            self.wanted[name] -= 1

    @rule()
    def grant(self) -> None:
        name = self.share.grant()
        waiting = [each for each, number in self.wanted.items() if number]
        if sum(self.held.values()) == self.workers or not waiting:
            assert name is None
            return
        assert name is not None
        assert self.wanted[name]
        assert self.priorities[name] == max(self.priorities[each] for each in waiting)
        if not any(self.held.values()) or self.held[name]:
            mine = [each for each in waiting if self.priorities[each] == self.priorities[name]]
            assert self.held[name] == 0 or all(self.held[each] for each in mine)
        self.wanted[name] -= 1
        self.held[name] += 1

    @rule()
    def take_back(self) -> None:
        name = self.share.take_back()
        if name is None:
            return
        waiting = [self.priorities[each] for each, number in self.wanted.items() if number]
        assert sum(self.held.values()) == self.workers
        assert self.held[name] > self.taken.count(name)
        assert self.priorities[name] <= max(waiting)
        self.taken.append(name)

    @rule(name=st.sampled_from(NAMES), taken=st.booleans())
    def give_back(self, name: str, taken: bool) -> None:
        staying = self.held.get(name, 0) - self.taken.count(name)
        if taken and name in self.taken:
            self.taken.remove(name)
        elif taken or staying < 1:
            return
        self.share.give_back(name, taken=taken)
        self.held[name] -= 1
        self._forget(name)

    @rule(name=st.sampled_from(NAMES))
    def keep(self, name: str) -> None:
        if name in self.taken and name not in self.left:
            self.share.keep(name)
            self.taken.remove(name)

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        if self._is_there(name):
            self.share.leave(name)
            self.wanted[name] = 0
            self.left.add(name)
            self._forget(name)

    def _forget(self, name: str) -> None:
        if name in self.left and not self.held[name]:
            del self.priorities[name], self.wanted[name], self.held[name]
            self.left.discard(name)

    @invariant()
    def counts_are_right(self) -> None:
        if hasattr(self, "share"):
            assert self.share.free == self.workers - sum(self.held.values())
            assert self.share.free >= 0
            assert all(self.share.held(name) == held for name, held in self.held.items())


TestShareMachine = ShareMachine.TestCase
