"""A cluster that comes up while a plan is made.

Ray takes about half a second to start here, and a worker process about another: a plan needs
neither.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from noria.engine.cluster.ray import Cluster


class Standby:
    """Starts a cluster at most once, on a thread of its own; a context manager that ends it."""

    def __init__(self, address: str | None = None) -> None:
        """`address` names a Ray cluster to join; None: a local Ray, which ends with close()."""
        self._address = address
        self._thread: threading.Thread | None = None
        self._up = threading.Event()
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._cluster: Cluster | None = None
        self._error: BaseException | None = None

    def begin_early(self, workers: int) -> None:
        """Begin, if it is a local cluster: who joins one takes no CPU there that is not needed
        yet. `workers` is how many it has to hold at least; a repeat does nothing."""
        if self._address is None:
            self._begin(workers)

    def cluster(self, workers: int) -> Cluster:
        """The cluster, as soon as it is up. Raises ConfigurationError where it cannot be had."""
        self._begin(workers)
        self._up.wait()
        if self._error is not None:
            raise self._error
        assert self._cluster is not None, "it is up, and nothing went wrong"
        return self._cluster

    def close(self) -> bool:
        """End the cluster, once it is up. False where Ray is too broken to be left well: see
        Cluster.close(). A repeat does nothing."""
        if self._thread is None:
            return True
        self._closing.set()
        self._up.wait()
        cluster, self._cluster = self._cluster, None
        left_well = cluster is None or cluster.close()
        self._closed.set()
        self._thread.join()
        return left_well

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, workers: int) -> None:
        if self._thread is None:
            cpus = max(os.cpu_count() or 1, workers)
            self._thread = threading.Thread(
                target=self._run, args=(cpus,), name="cluster", daemon=True
            )
            self._thread.start()

    def _run(self, cpus: int) -> None:
        try:
            # Ray takes a third of a second to import: only what runs a cluster pays for it.
            from noria.engine.cluster.ray import Cluster

            if not self._closing.is_set():
                self._cluster = Cluster(self._address, cpus=cpus)
                if self._address is None and not self._closing.is_set():
                    self._cluster.prestart_worker()
        except BaseException as error:  # noqa: BLE001 - cluster() raises it
            self._error = error
        self._up.set()
        # The kernel ends a local Ray with the thread that started it, which therefore stays.
        self._closed.wait()
