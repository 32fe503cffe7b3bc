"""What goes wrong at a simulated site, and when: by chance, of a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

from noria.benchmarks.simulate.driver import SimulatedDriver
from noria.benchmarks.simulate.settings import HOUR, MINUTE
from noria.benchmarks.simulate.workers import SimulatedNode, SimulatedWorker
from noria.benchmarks.simulate.world import World

NEW_NODE_SECONDS = (2 * MINUTE, 10 * MINUTE)
DRAIN_SECONDS = 2 * MINUTE
"""From the notice to the end of a node, as for spot capacity."""
THROTTLE_SECONDS = (5 * MINUTE, HOUR)
THROTTLE_SHARE = (0.05, 0.5)
OUTAGE_SECONDS = 2 * HOUR
PAUSE_SECONDS = (10.0, 5 * MINUTE)
RESTART_SECONDS = (30.0, 3 * MINUTE)
ZOMBIE_TIMEOUTS = (0.3, 4.0)
"""How long a silence is, in heartbeat time-outs."""


class FaultInjector:
    """Each kind of fault comes at times of its own; `begin` once."""

    def __init__(
        self, world: World, driver: SimulatedDriver, chance: random.Random, heartbeat_seconds: float
    ) -> None:
        self._world = world
        self._driver = driver
        self._chance = chance
        self._heartbeat_seconds = heartbeat_seconds

    def begin(self) -> None:
        faults = self._world.faults
        self._plan(faults.node_loss_seconds, self._lose_node)
        self._plan(faults.node_drain_seconds, self._drain_node)
        self._plan(faults.worker_crash_seconds, self._crash_worker)
        self._plan(faults.zombie_seconds, self._hush_worker)
        self._plan(faults.throttle_seconds, self._throttle)
        self._plan(faults.outage_seconds, self._take_away)
        self._plan(faults.driver_pause_seconds, self._pause_driver)
        if faults.driver_restart_seconds:
            self._world.later(faults.driver_restart_seconds, self._restart_driver)

    def _plan(self, mean_seconds: float, fault: Callable[[], None]) -> None:
        if mean_seconds:
            seconds = self._chance.expovariate(1 / mean_seconds)
            self._world.later(seconds, self._happen, mean_seconds, fault)

    def _happen(self, mean_seconds: float, fault: Callable[[], None]) -> None:
        fault()
        self._plan(mean_seconds, fault)

    def _mark(self, what: str) -> None:
        self._world.figures.mark(self._world.now, what)

    # -- nodes and workers -------------------------------------------------------------------------

    def _any_node(self) -> SimulatedNode | None:
        nodes = list(self._driver.cluster.nodes.values())
        return self._chance.choice(nodes) if nodes else None

    def _any_worker(self) -> SimulatedWorker | None:
        node = self._any_node()
        able = [worker for worker in node.workers if not worker.is_silent] if node else []
        return self._chance.choice(able) if able else None

    def _lose_node(self) -> None:
        node = self._any_node()
        if node is not None:
            self._mark("node lost")
            self._end_node(node, told=self._chance.random() < 0.5)

    def _end_node(self, node: SimulatedNode, *, told: bool) -> None:
        if node.gone:
            return
        workers = list(node.workers)
        self._driver.cluster.lose_node(node)
        for worker in workers:
            if told:
                self._driver.hear_lost(worker)
        self._world.later(self._chance.uniform(*NEW_NODE_SECONDS), self._add_node)

    def _add_node(self) -> None:
        self._driver.staff(self._driver.cluster.add_node())

    def _drain_node(self) -> None:
        """Notice is given. Some of its leases are handed back, some end in time, some do not."""
        node = self._any_node()
        if node is None:
            return
        self._mark("node drained")
        for worker in node.workers:
            self._driver.hear_draining(worker)
            for task in list(worker.tasks.values()):
                if self._chance.random() < 0.5:
                    self._driver.cluster.hand_back(task)
        node.leaving = True
        self._world.later(DRAIN_SECONDS, lambda: self._end_node(node, told=True))

    def _crash_worker(self) -> None:
        worker = self._any_worker()
        if worker is not None:
            self._mark("worker crashed")
            self._driver.cluster.die(worker)
            self._driver.hear_lost(worker)

    def _hush_worker(self) -> None:
        """Stopped, or cut off; it comes back, in time or too late."""
        worker = self._any_worker()
        if worker is not None:
            self._mark("worker silent")
            self._driver.cluster.hush(worker, asleep=self._chance.random() < 0.5)
            seconds = self._heartbeat_seconds * self._chance.uniform(*ZOMBIE_TIMEOUTS)
            self._world.later(seconds, self._driver.cluster.wake, worker)

    # -- stores and the driver ---------------------------------------------------------------------

    def _throttle(self) -> None:
        self._mark("throttled")
        store = self._chance.choice(("source", "target"))
        seconds = self._chance.uniform(*THROTTLE_SECONDS)
        self._give_less(store, self._chance.uniform(*THROTTLE_SHARE), seconds)

    def _take_away(self) -> None:
        self._mark("store away")
        self._give_less(self._chance.choice(("source", "target")), 0.0, OUTAGE_SECONDS)

    def _give_less(self, store: str, share: float, seconds: float) -> None:
        flow, now = self._world.flow, self._world.now
        flow.throttle(store, share)
        self._world.figures.throttled.append((now, now + seconds))
        self._world.later(seconds, flow.throttle, store, 1.0)

    def _pause_driver(self) -> None:
        self._mark("driver stood still")
        self._driver.pause(self._chance.uniform(*PAUSE_SECONDS))

    def _restart_driver(self) -> None:
        self._mark("driver restarted")
        self._driver.stop()
        self._world.later(self._chance.uniform(*RESTART_SECONDS), self._driver.begin)
        self._world.later(self._world.faults.driver_restart_seconds, self._restart_driver)
