"""Shifts the clock of Ray's worker processes, as the file says that HOSTS_CLOCK names.

Python runs this before anything else in each process whose module path holds this folder. The
file's text is seconds, and may change at any time; none: the clock is right. Other processes, such
as Ray's own, are left alone: a kernel has one wall clock for all of its namespaces.
"""

import os
import sys
import time
from collections.abc import Callable

FILE = os.environ.get("HOSTS_CLOCK")
LOOK_SECONDS = 0.2


def _shifted(
    real: Callable[[], float], steady: Callable[[], float], name: str
) -> Callable[[], float]:
    """A clock like `real`, as far off as the file `name` says."""
    known = [0.0, float("-inf")]

    def now() -> float:
        moment = steady()
        if moment - known[1] > LOOK_SECONDS:
            known[1] = moment
            try:
                with open(name) as file:
                    known[0] = float(file.read() or 0)
            except OSError:
                known[0] = 0.0
        return real() + known[0]

    return now


if FILE and any("default_worker" in word for word in sys.orig_argv):
    time.time = _shifted(time.time, time.monotonic, FILE)
