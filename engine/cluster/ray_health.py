"""What a driver knows of the health of a Ray cluster: which nodes it has, and when it was heard.

A cluster may be silent for a while because a network is, so its driver is patient with it. What was
lost, what is missing and since when is said in lines that stay.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

log = logging.getLogger("noria.ray")

NOTE_SECONDS: Final = 10.0
"""A silence of so long is said; a pulse takes two seconds."""
GAP_SECONDS: Final = 2.0
"""Looks that are further apart do not count for more: the driver itself stood still."""
NAMES_MOST: Final = 5
"""Names of nodes in one line."""
LOSSES_MOST: Final = 1000
"""Losses that are remembered: hosts may come and go for weeks, each with a name of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of a Ray cluster, as people know it."""

    name: str
    address: str

    def __str__(self) -> str:
        return self.name if self.name == self.address else f"{self.name} ({self.address})"


@dataclass(frozen=True, slots=True)
class _Loss:
    node: Node
    at: float
    unix: float


class ClusterHealth:
    """Silence and losses of a cluster. hear() and end() are for any thread, the rest for one."""

    def __init__(
        self,
        address: str | None,
        *,
        patience_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        """`address` None: a Ray of this machine, which nothing but this driver holds up."""
        self.address = address
        self._patience = patience_seconds
        self._clock = clock
        self._unix_clock = unix_clock
        self._heard: deque[Mapping[str, Node]] = deque()
        self._nodes: Mapping[str, Node] | None = None
        self._lost: deque[_Loss] = deque(maxlen=LOSSES_MOST)
        """Those that are not back."""
        self._looked_at = clock()
        self._silent_seconds = 0.0
        self._is_noted = False
        self._nodeless_since: float | None = None
        self._is_over = False

    def hear(self, nodes: Mapping[str, Node]) -> None:
        """The control store has answered: these nodes are alive, by their ids."""
        self._heard.append(nodes)

    def end(self) -> None:
        """The connection to the cluster is gone, and does not come back."""
        self._is_over = True

    def look(self) -> None:
        """Take in what was heard, and say what has changed. To be called every second or so."""
        now = self._clock()
        self._silent_seconds += min(now - self._looked_at, GAP_SECONDS)
        self._looked_at = now
        while self._heard:
            self._take(self._heard.popleft(), now)
        note_seconds = min(NOTE_SECONDS, self._patience / 2)
        if self._silent_seconds >= note_seconds and not self._is_noted and not self._is_over:
            self._is_noted = True
            log.warning(
                "no answer from %s for %.0f s: %s waits for it for up to %.0f s, and workers that "
                "can be reached go on",
                self._control_store,
                self._silent_seconds,
                socket.gethostname(),
                self._patience,
            )

    def trouble(self) -> str | None:
        """Why no worker can be heard any more, and what to look at; None if it is not so."""
        silent = self._silent_seconds
        if silent >= self._patience or (self._is_over and self._is_noted):
            return (
                f"no answer from {self._control_store} for {silent:.0f} s: see that it is up, and "
                f"that {socket.gethostname()} reaches it"
            )
        if self._is_over:
            return f"the connection to {self._cluster} is gone: see that it is up (`ray status`)"
        if self._nodeless_since is None:
            return None
        seconds = self._clock() - self._nodeless_since
        if self.address is not None and seconds < self._patience:
            return None  # another node may join
        lost = self.nodes_lost() or "none has joined"
        return f"{self._cluster} has had no node for {seconds:.0f} s: {lost}"

    def nodes_lost(self) -> str | None:
        """Which nodes are lost, and when the last of them was; None if none are."""
        if not self._lost:
            return None
        names = [str(loss.node) for loss in list(self._lost)[-NAMES_MOST:]]
        more = len(self._lost) - len(names)
        said = ", ".join(names) + (f" and {more:,} more" if more else "")
        at = datetime.fromtimestamp(self._lost[-1].unix, UTC)
        if len(self._lost) == 1:
            return f"1 node was lost, at {at:%F %T} UTC: {said}"
        return f"{len(self._lost):,} nodes were lost, the last at {at:%F %T} UTC: {said}"

    def _take(self, nodes: Mapping[str, Node], now: float) -> None:
        if self._is_noted:
            log.warning("%s answers again, after %.0f s", self._control_store, self._silent_seconds)
        self._silent_seconds, self._is_noted = 0.0, False
        before = {} if self._nodes is None else self._nodes
        for node in (node for name, node in before.items() if name not in nodes):
            log.warning("node %s is lost: %d of %d are left", node, len(nodes), len(before))
            self._lost.append(_Loss(node, now, self._unix_clock()))
        for node in (node for name, node in nodes.items() if name not in before):
            self._note_return(node, now)
        self._nodes = nodes
        if nodes:
            self._nodeless_since = None
        elif self._nodeless_since is None:
            self._nodeless_since = now

    def _note_return(self, node: Node, now: float) -> None:
        """A node has joined: one that was lost and is back has the same name, and another id."""
        for loss in list(self._lost):
            if loss.node.name == node.name:
                log.warning("node %s is back, after %.0f s", node, now - loss.at)
                self._lost.remove(loss)
                return

    @property
    def _control_store(self) -> str:
        where = "of this machine" if self.address is None else f"at {self.address}"
        return f"Ray's control store {where}"

    @property
    def _cluster(self) -> str:
        return "the Ray of this machine" if self.address is None else f"Ray at {self.address}"
