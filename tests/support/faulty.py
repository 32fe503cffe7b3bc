"""A lease whose both ends lie behind fault proxies, and the questions that every case ends with.

Is what arrived what the source held, did the source see reads alone, was every object written once,
is no upload left open, and do our counters say what crossed the wire?
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import Azurite
from noria.manifests.counters import Counter
from noria.manifests.model import LeaseResult, Outcome, Receipt
from noria.workers.counters import CounterRegistry
from noria.workers.runtime.pacing import Pacer
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Operation, refuse
from tests.support.lease_jobs import (
    STREAMS,
    AzureContainer,
    BucketShelf,
    Container,
    Job,
    S3Bucket,
    WatchedPacer,
    azure_container,
    lease_job,
)

SMALL = 50_000
WRITES = (Operation.PUT, Operation.COMPLETE)
"""What makes an object."""
THROTTLES = {"503": refuse(503, "SlowDown"), "429": refuse(429, "TooManyRequests")}

both_ways = pytest.mark.parametrize("way", ["azure-s3", "s3-azure"])
to_s3 = pytest.mark.parametrize("way", ["azure-s3"])


@dataclass
class Case:
    """A job whose both ends lie behind fault proxies."""

    job: Job
    source: FaultProxy
    target: FaultProxy

    @property
    def counters(self) -> CounterRegistry:
        return self.job.context.counters

    def retries(self, cause: str) -> float:
        return self.counters.total(Counter.RETRIES, cause)

    def lowest_limit(self, pacer: Pacer) -> float:
        """How low the limit of one of the job's two pacers fell."""
        assert isinstance(pacer, WatchedPacer)
        return pacer.lowest

    def run(self, *, streams: int = STREAMS) -> LeaseResult:
        return self.job.run(self.job.lease(), streams=streams)

    def finish(self, *, streams: int = STREAMS, exact: bool = True) -> dict[str, Receipt]:
        """Run a lease to its end and ask the questions of every case.

        Not `exact`: a fault hides from the target what was sent, or the other way round.
        """
        receipts = self.job.receipts(self.run(streams=streams))
        assert receipts.keys() == self.job.sizes.keys()
        self.check_landed(receipts)
        assert self.source.methods() <= {"GET", "HEAD"}
        assert self.job.target.open_uploads() == []
        if exact:
            assert self.counters.total(Counter.BYTES_WRITTEN) == self.target.written_bytes()
        return receipts

    def check_landed(self, receipts: dict[str, Receipt], *, most_writes: int = 1) -> None:
        """What is said to have moved is there, whole, ours, and written once.

        `most_writes`: by so many attempts at the same moment as a server's own race between them
        lets through.
        """
        for key, receipt in receipts.items():
            writes = [e for e in self.target.seen(*WRITES, name=f"/to/{key}") if e.happened]
            if receipt.outcome is not Outcome.TRANSFERRED:
                assert writes == [], key
                continue
            assert 1 <= len(writes) <= most_writes, key
            assert self.job.target_bytes(key) == self.job.source_bytes(key), key
            txid = self.job.target.metadata(f"to/{key}")["noriatxid"]
            assert txid == receipt.txid or len(writes) > 1

    def finish_moved(self, *, streams: int = STREAMS, exact: bool = True) -> dict[str, Receipt]:
        """As finish(), and everything moved."""
        receipts = self.finish(streams=streams, exact=exact)
        said = {key: (receipt.outcome, receipt.cause) for key, receipt in receipts.items()}
        assert set(said.values()) == {(Outcome.TRANSFERRED, None)}, said
        return receipts


def large_only(way: str) -> dict[str, int]:
    """One object of two parts, the second a small one."""
    part_bytes = S3Bucket.part_bytes if way.endswith("s3") else AzureContainer.part_bytes
    return {"large": part_bytes + SMALL}


NewCase = Callable[..., Case]
"""What the fixture `new_case` gives: new_case("azure-s3", sizes, **options)."""


@contextlib.contextmanager
def faulty_case(
    folder: Path, source: Container, target: Container, sizes: dict[str, int], **options: Any
) -> Iterator[Case]:
    """A job with a proxy before each end, and short waits; options are those of lease_job()."""
    with contextlib.ExitStack() as stack:
        proxies = [
            stack.enter_context(run_fault_proxy(end.endpoint, resign=end.resign))
            for end in (source, target)
        ]
        options = {"retry_base_seconds": 0.01, "retry_cap_seconds": 0.05, **options}
        job = stack.enter_context(
            lease_job(
                folder,
                source,
                target,
                sizes,
                source_endpoint=proxies[0].endpoint,
                target_endpoint=proxies[1].endpoint,
                **options,
            )
        )
        yield Case(job, *proxies)


def case_ends(
    way: str, buckets: BucketShelf, azurite: Azurite, stack: contextlib.ExitStack
) -> tuple[Container, Container]:
    """Take two empty ends, which go with `stack`: of "azure-s3" a container and a bucket."""

    def take(kind: str) -> Container:
        if kind == "s3":
            return stack.enter_context(buckets.take())
        return stack.enter_context(azure_container(azurite))

    source, target = way.split("-")
    return take(source), take(target)
