"""What goes wrong at a simulated site, and when: by chance, of a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial

from noria.benchmarks.simulate.cluster import KILL_SECONDS
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
LATE_TIMEOUTS = (0.05, 3.0)
"""How late a message is, in heartbeat time-outs."""
TOLD_TIMEOUTS = (0.05, 1.2)
"""When the cluster says that it cannot reach a worker, in heartbeat time-outs."""


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
        self._plan(faults.node_cut_seconds, partial(self._hush_node, asleep=False))
        self._plan(faults.node_freeze_seconds, partial(self._hush_node, asleep=True))
        self._plan(faults.late_message_seconds, self._delay_message)
        self._plan(faults.lost_message_seconds, self._lose_message)
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
            workers = list(node.workers)
            self._end_node(node)
            if self._chance.random() < 0.5:
                for worker in workers:
                    self._driver.hear_unreachable(worker)

    def _end_node(self, node: SimulatedNode) -> None:
        self._driver.cluster.lose_node(node)
        self._world.later(self._chance.uniform(*NEW_NODE_SECONDS), self._add_node)

    def _add_node(self) -> None:
        self._driver.staff(self._driver.cluster.add_node())

    def _drain_node(self) -> None:
        """Notice is given. Some of its leases are handed back, some end in time, some do not."""
        node = self._any_node()
        if node is None or node.away:
            return
        self._mark("node drained")
        for worker in node.workers:
            self._driver.hear_draining(worker)
            for task in list(worker.tasks.values()):
                if self._chance.random() < 0.5 and not worker.is_silent:
                    self._driver.cluster.hand_back(task)
        node.leaving = True
        self._world.later(DRAIN_SECONDS, self._end_drained, node)

    def _end_drained(self, node: SimulatedNode) -> None:
        """Its workers are ended before the node goes, if it can be reached."""
        if not node.gone:
            workers, told = list(node.workers), not node.away
            self._end_node(node)
            for worker in workers:
                if told:
                    self._driver.hear_lost(worker)

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
            self._world.later(seconds, self._wake, worker)

    def _wake(self, worker: SimulatedWorker) -> None:
        self._driver.cluster.wake(worker, in_vain=self._chance.random() < 0.5)

    def _hush_node(self, *, asleep: bool) -> None:
        """Cut off from the driver, or stopped, with all its workers; it comes back."""
        node = self._any_node()
        if node is None or node.away:
            return
        self._mark("node frozen" if asleep else "node cut off")
        node.away = True
        workers = list(node.workers)
        for worker in workers:
            if not worker.is_silent:
                self._driver.cluster.hush(worker, asleep=asleep)
        seconds = self._heartbeat_seconds * self._chance.uniform(*ZOMBIE_TIMEOUTS)
        told = self._heartbeat_seconds * self._chance.uniform(*TOLD_TIMEOUTS)
        if told < seconds and self._chance.random() < 0.5:
            self._world.later(told, self._say_unreachable, workers)
        self._world.later(seconds, self._bring_back, node, workers)

    def _say_unreachable(self, workers: list[SimulatedWorker]) -> None:
        for worker in workers:
            self._driver.hear_unreachable(worker)

    def _bring_back(self, node: SimulatedNode, workers: list[SimulatedWorker]) -> None:
        """A node that counted as lost ends soon after it is back: its cluster has no use for it."""
        if node.gone:
            return
        node.away = False
        for worker in workers:
            self._wake(worker)
        if any(worker.unreachable for worker in workers):
            node.leaving = True
            self._world.later(self._chance.uniform(*KILL_SECONDS), self._end_drained, node)
        else:
            self._driver.staff(node)

    # -- messages ----------------------------------------------------------------------------------

    def _delay_message(self) -> None:
        worker = self._any_worker()
        if worker is not None and not worker.exchanging:
            self._mark("message late")
            seconds = self._heartbeat_seconds * self._chance.uniform(*LATE_TIMEOUTS)
            share = self._chance.choice((0.0, 0.5, 1.0))
            worker.delays = [share * seconds, (1 - share) * seconds]

    def _lose_message(self) -> None:
        """Nobody sends it again. The cluster may notice, and ends a worker that it gives up."""
        worker = self._any_worker()
        if worker is None or worker.exchanging:
            return
        self._mark("message lost")
        worker.delays = self._chance.choice(([math.inf], [0.0, math.inf]))
        if self._chance.random() < 0.5:
            told = self._heartbeat_seconds * self._chance.uniform(*TOLD_TIMEOUTS)
            self._world.later(told, self._give_up, worker)

    def _give_up(self, worker: SimulatedWorker) -> None:
        self._driver.hear_unreachable(worker)
        self._world.later(self._chance.uniform(*KILL_SECONDS), self._driver.cluster.die, worker)

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
        self._world.later(self._chance.uniform(*RESTART_SECONDS), self._driver.follow)
        self._world.later(self._world.faults.driver_restart_seconds, self._restart_driver)
