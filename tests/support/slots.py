"""A request's room at a pacer, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from noria.workers.runtime.pacing import Pacer


@contextmanager
def slot(pacer: Pacer) -> Iterator[None]:
    slot = pacer.acquire()
    assert slot is not None
    try:
        yield
    except BaseException:
        pacer.release(slot, succeeded=False)
        raise
    pacer.release(slot, succeeded=True)
