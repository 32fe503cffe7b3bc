"""What a driver says of a Ray cluster that is silent, loses nodes, or ends."""

from __future__ import annotations

import logging
import socket

import pytest

from noria.engine.cluster.ray_health import LOSSES_MOST, ClusterHealth, Node

A, B = Node(name="a", address="10.0.0.1"), Node(name="b", address="10.0.0.2")
ADDRESS = "10.0.0.9:6379"


class _Clocks:
    """Time that passes when a test says so; the calendar's begins at midnight of 1970."""

    def __init__(self) -> None:
        self.now = 1000.0

    def unix(self) -> float:
        return self.now - 1000.0


@pytest.fixture
def clocks() -> _Clocks:
    return _Clocks()


@pytest.fixture
def health(clocks: _Clocks) -> ClusterHealth:
    health = ClusterHealth(
        ADDRESS, patience_seconds=60.0, clock=lambda: clocks.now, unix_clock=clocks.unix
    )
    health.hear({"1": A, "2": B})
    health.look()
    return health


def passes(health: ClusterHealth, clocks: _Clocks, seconds: float) -> None:
    """Time passes, and the driver looks all the while."""
    until = clocks.now + seconds
    while clocks.now < until:
        clocks.now = min(until, clocks.now + 0.5)
        health.look()


def test_a_silence_is_said_and_becomes_trouble_only_after_the_patience(
    health: ClusterHealth, clocks: _Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    passes(health, clocks, 9.0)
    assert caplog.messages == []
    passes(health, clocks, 50.0)
    (said,) = caplog.messages
    assert said.startswith(f"no answer from Ray's control store at {ADDRESS} for 10 s: ")
    assert socket.gethostname() in said
    assert health.trouble() is None
    passes(health, clocks, 1.0)
    trouble = health.trouble()
    assert trouble is not None
    assert trouble.startswith(f"no answer from Ray's control store at {ADDRESS} for 60 s: ")
    assert trouble.endswith(f"that {socket.gethostname()} reaches it")


def test_one_that_answers_again_in_time_is_no_trouble(
    health: ClusterHealth, clocks: _Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    passes(health, clocks, 40.0)
    health.hear({"1": A, "2": B})
    passes(health, clocks, 59.0)
    assert caplog.messages[1].endswith("answers again, after 40 s")
    assert len(caplog.messages) == 3, "the second silence is said, too"
    assert health.trouble() is None


def test_a_driver_that_stood_still_has_not_been_silent_to(
    health: ClusterHealth, clocks: _Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    """It has to hear first: what came meanwhile may not be taken in yet."""
    clocks.now += 3600
    health.look()
    assert health.trouble() is None
    assert caplog.messages == []


def test_lost_nodes_and_those_that_are_back_have_a_line_each(
    health: ClusterHealth, clocks: _Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    assert health.nodes_lost() is None
    clocks.now += 5
    health.hear({"1": A})
    health.look()
    assert health.nodes_lost() == "1 node was lost, at 1970-01-01 00:00:05 UTC: b (10.0.0.2)"
    clocks.now += 30
    health.hear({"1": A, "3": Node(name="b", address="10.0.0.33")})
    health.look()
    assert caplog.messages == [
        "node b (10.0.0.2) is lost: 1 of 2 are left",
        "node b (10.0.0.33) is back, after 30 s",
    ]
    assert health.nodes_lost() is None
    assert health.trouble() is None


def test_without_any_node_a_cluster_is_waited_for(health: ClusterHealth, clocks: _Clocks) -> None:
    health.hear({})
    passes(health, clocks, 1.0)
    for _ in range(58):
        health.hear({})
        passes(health, clocks, 1.0)
    assert health.trouble() is None
    health.hear({})
    passes(health, clocks, 2.0)
    trouble = health.trouble()
    assert trouble is not None
    assert trouble.startswith(f"Ray at {ADDRESS} has had no node for 60 s: 2 nodes were lost")
    health.hear({"3": A})
    passes(health, clocks, 1.0)
    assert health.trouble() is None


def test_a_connection_that_ends_is_trouble_at_once(health: ClusterHealth, clocks: _Clocks) -> None:
    health.end()
    assert health.trouble() == (
        f"the connection to Ray at {ADDRESS} is gone: see that it is up (`ray status`)"
    )


def test_one_that_ends_after_a_silence_says_that_it_was_silent(
    health: ClusterHealth, clocks: _Clocks
) -> None:
    passes(health, clocks, 15.0)
    health.end()
    trouble = health.trouble()
    assert trouble is not None
    assert "no answer from Ray's control store at 10.0.0.9:6379 for 15 s" in trouble


def test_what_is_remembered_of_losses_is_bounded(
    health: ClusterHealth, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    for number in range(LOSSES_MOST + 10):
        health.hear({"1": A, str(number): Node(name=f"spot-{number}", address=f"{number}")})
        health.look()
    health.hear({"1": A})
    health.look()
    lost = health.nodes_lost()
    assert lost is not None
    assert lost.startswith(f"{LOSSES_MOST:,} nodes were lost, the last at ")
    assert lost.endswith(f"and {LOSSES_MOST - 5:,} more")
