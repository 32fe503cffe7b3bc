"""Null stores at a distance: the route between them and a mover, and the stand that has it.

with run_route_bed(objects, Route(round_trip_ms=20, rate=40e6), tls=False) as test_bed:
    with test_bed.fresh_ends() as ends:
        ...
        test_bed.source_road.seconds()
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence

from noria.benchmarks.null import stores as null_stores
from noria.benchmarks.null.road import Road, run_road
from noria.benchmarks.null.stores import NullSink, NullSource, RequestCeiling
from noria.benchmarks.suite.beds import count_objects
from noria.benchmarks.suite.tools import Ends
from noria.benchmarks.suite.workloads import Route, Sized


class RouteTestBed:
    """A null source and a null sink, each at the end of a road of its own."""

    def __init__(
        self, source: NullSource, sink: NullSink, route: Route, log_seconds: float
    ) -> None:
        self.source = source
        self.sink = sink
        self._route = route
        self._log_seconds = log_seconds
        self._roads: tuple[Road, Road] | None = None

    @property
    def source_road(self) -> Road:
        """As `sink_road`, that of the ends which are open now."""
        return self._open_roads[0]

    @property
    def sink_road(self) -> Road:
        return self._open_roads[1]

    @property
    def _open_roads(self) -> tuple[Road, Road]:
        assert self._roads is not None, "there are roads while there are ends"
        return self._roads

    @contextlib.contextmanager
    def fresh_ends(self) -> Iterator[Ends]:
        """A new bucket, and new roads, which count from nothing."""
        with self._road(self.source.port) as source_road, self._road(self.sink.port) as sink_road:
            self._roads = source_road, sink_road
            source = self.source.through(source_road.port)
            try:
                yield Ends(
                    connection_string=source.connection_string,
                    account=null_stores.ACCOUNT,
                    container=null_stores.CONTAINER,
                    endpoint=self.sink.through(sink_road.port).endpoint,
                    access_key=null_stores.ACCESS_KEY,
                    secret_key=null_stores.SECRET_KEY,
                    bucket=f"bench-{uuid.uuid4().hex[:12]}",
                    ca_bundle=self.sink.ca_bundle,
                    takes_trailers=False,
                )
            finally:
                self._roads = None

    def _road(self, port: int) -> contextlib.AbstractContextManager[Road]:
        return run_road(
            port,
            delay_ms=self._route.round_trip_ms / 2,
            jitter_ms=self._route.jitter_ms,
            rate=self._route.rate,
            line=self._route.line,
            die_seconds=self._route.die_seconds,
            log_seconds=self._log_seconds,
        )

    def arrived(self, ends: Ends) -> tuple[int, int]:
        """Counted at the sink itself: no road has to carry the listing."""
        return count_objects(self.sink.client(), ends.bucket)


@contextlib.contextmanager
def run_route_bed(
    objects: Sequence[Sized],
    route: Route,
    *,
    tls: bool,
    source_ceiling: RequestCeiling | None = None,
    sink_ceiling: RequestCeiling | None = None,
    log_seconds: float = 1,
) -> Iterator[RouteTestBed]:
    with (
        null_stores.run_null_source(objects, tls=tls, ceiling=source_ceiling) as source,
        null_stores.run_null_sink(tls=tls, ceiling=sink_ceiling) as sink,
    ):
        yield RouteTestBed(source, sink, route, log_seconds)
