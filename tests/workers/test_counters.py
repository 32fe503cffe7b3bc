"""A worker's counters: what is counted elsewhere is read at each snapshot."""

from __future__ import annotations

from noria.manifests.counters import Counter
from noria.workers.counters import CounterRegistry


def test_totals_that_are_counted_elsewhere_are_read_at_each_snapshot() -> None:
    registry, opened = CounterRegistry(), {"plain": 1.0}
    registry.counted(Counter.CONNECTIONS, "source", read=lambda: opened)
    registry.add(Counter.PARTS)
    assert registry.snapshot().counters == {
        (Counter.PARTS,): 1,
        (Counter.CONNECTIONS, "source", "plain"): 1,
    }
    opened["TLSv1.3, TLS_AES_256_GCM_SHA384"] = 2.0
    counters = registry.snapshot().counters
    assert counters[Counter.CONNECTIONS, "source", "TLSv1.3, TLS_AES_256_GCM_SHA384"] == 2
