"""A standby starts one cluster, on a thread that stays, and ends it whatever came in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import noria.engine.cluster.ray
from noria.engine.cluster.standby import Standby
from noria.manifests.errors import ConfigurationError

WAIT_SECONDS = 10.0


class FakeCluster:
    """Comes up when `may_come` is set; keeps a record of what is asked of it."""

    made: list[FakeCluster]
    may_come: threading.Event
    fails: bool

    def __init__(self, address: str | None, *, cpus: int) -> None:
        assert FakeCluster.may_come.wait(WAIT_SECONDS)
        if FakeCluster.fails:
            raise ConfigurationError("cannot reach it")
        self.address, self.cpus = address, cpus
        self.thread = threading.current_thread()
        self.prestarted = 0
        self.closed: list[bool] = []
        FakeCluster.made.append(self)

    def prestart_worker(self) -> None:
        self.prestarted += 1

    def close(self) -> bool:
        # The kernel would end a local Ray with this thread, before it could be left well.
        self.closed.append(self.thread.is_alive())
        return True


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeCluster]]:
    FakeCluster.made, FakeCluster.may_come, FakeCluster.fails = [], threading.Event(), False
    FakeCluster.may_come.set()
    monkeypatch.setattr(noria.engine.cluster.ray, "Cluster", FakeCluster)
    yield FakeCluster
    FakeCluster.may_come.set()


def test_a_local_cluster_comes_up_while_others_go_on(fake: type[FakeCluster]) -> None:
    fake.may_come.clear()
    with Standby() as standby:
        standby.begin_early(3)
        standby.begin_early(3)
        assert fake.made == []
        fake.may_come.set()
        cluster = standby.cluster(3)
        assert fake.made == [cluster]
        assert cluster.address is None
        assert cluster.cpus >= 3
        assert cluster.prestarted == 1
    assert cluster.closed == [True]


def test_a_cluster_that_is_joined_is_not_bothered_early(fake: type[FakeCluster]) -> None:
    with Standby("head:6379") as standby:
        standby.begin_early(1)
        assert not any(thread.name == "cluster" for thread in threading.enumerate())
        cluster = standby.cluster(1)
        assert cluster.address == "head:6379"
        assert cluster.prestarted == 0
    assert cluster.closed == [True]


def test_closing_waits_for_what_has_begun_and_ends_it_once(fake: type[FakeCluster]) -> None:
    fake.may_come.clear()
    standby = Standby()
    standby.begin_early(1)
    closing = threading.Thread(target=standby.close)
    closing.start()
    fake.may_come.set()
    closing.join(WAIT_SECONDS)
    assert not closing.is_alive()
    assert standby.close()
    assert [cluster.closed for cluster in fake.made] in ([], [[True]]), "begun or not, never left"


def test_closing_what_never_began_starts_nothing(fake: type[FakeCluster]) -> None:
    assert Standby().close()
    assert fake.made == []


def test_why_it_did_not_come_up_is_told_to_who_asks(fake: type[FakeCluster]) -> None:
    fake.fails = True
    with Standby() as standby:
        standby.begin_early(1)
        with pytest.raises(ConfigurationError, match="cannot reach it"):
            standby.cluster(1)
