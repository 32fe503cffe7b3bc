"""Whose trouble it is: one host's, which rests, or the job's, which stops."""

from __future__ import annotations

from noria.engine.cluster.protocol import Host
from noria.engine.hosts import LOSSES, MARGIN_SECONDS, REST_SECONDS, HostWatch, Trouble
from noria.manifests.counters import Gauge, Histogram, StoreOperation, StoreRole
from noria.manifests.model import LATENCY_BUCKETS, MetricsSnapshot

A, B, C = (Host(id=f"id-{name}", name=name) for name in ("a", "b", "c"))
SKEWED = Trouble(cause="clock_skewed", message="the clock is 1200 s off")
DENIED = Trouble(cause="access_denied", message="the key is refused")


def watch_of(*hosts: Host) -> HostWatch:
    """One worker on each host, of the host's name."""
    watch = HostWatch()
    for host in hosts:
        watch.join(host.name, host)
    return watch


def known(*hosts: Host) -> set[str]:
    return {host.id for host in hosts}


def metrics(*, answers: int, silent: float = 0.0) -> MetricsSnapshot:
    counts = (float(answers), *[0.0] * len(LATENCY_BUCKETS), 1.0)
    return MetricsSnapshot(
        gauges={(Gauge.SILENT_SECONDS, StoreRole.TARGET): silent},
        histograms={(Histogram.REQUEST_SECONDS, StoreRole.TARGET, StoreOperation.PUT): counts},
    )


def test_a_host_in_trouble_rests_and_the_others_go_on() -> None:
    watch = watch_of(A, B)
    watch.blame("a", SKEWED, 0.0)
    assert watch.reasons(0.0) == {"a": "clock_skewed: the clock is 1200 s off"}
    assert watch.workers_to_end(0.0) == ["a"]
    assert watch.verdict(known(A, B), 0.0) is None


def test_after_its_rest_a_host_is_tried_again_and_rests_twice_as_long() -> None:
    watch = watch_of(A, B)
    watch.blame("a", SKEWED, 0.0)
    watch.leave("a", lost=False, now=1.0)
    assert watch.resting(REST_SECONDS - 1)
    assert not watch.resting(REST_SECONDS)
    watch.refuse_start(A, SKEWED, REST_SECONDS)
    assert watch.resting(3 * REST_SECONDS - 1)
    assert not watch.resting(3 * REST_SECONDS)


def test_a_lease_that_ends_well_after_the_rest_makes_a_host_well() -> None:
    watch = watch_of(A, B)
    watch.blame("a", SKEWED, 0.0)
    watch.succeed("a", 1.0)
    assert watch.resting(1.0), "what was about to end says nothing"
    watch.succeed("a", REST_SECONDS)
    watch.blame("a", SKEWED, 100.0)
    assert not watch.resting(100.0 + REST_SECONDS), "it rests as for the first time"


def test_a_host_that_rests_beside_others_is_tried_again_when_they_go() -> None:
    watch = watch_of(A, B)
    watch.doubt("a", Trouble(cause="leases_failed", message="its leases fail"), 0.0)
    assert watch.verdict(known(A), 1.0) is None
    assert not watch.resting(1.0)


def test_who_is_not_answered_itself_is_no_witness() -> None:
    """A store may refuse one operation to all, and answer others."""
    watch = watch_of(A, B)
    for now in range(0, 100, 5):
        watch.hear("a", metrics(answers=now, silent=1.0 + now), float(now))
        watch.hear("b", metrics(answers=now, silent=1.0 + now), float(now))
        watch.look(float(now))
    assert not watch.resting(100.0)


def test_the_trouble_of_the_only_host_is_the_jobs() -> None:
    watch = watch_of(A)
    watch.blame("a", DENIED, 0.0)
    assert watch.verdict(known(A), 0.0) == DENIED


def test_the_same_trouble_everywhere_is_told_once() -> None:
    watch = watch_of(A, B)
    watch.blame("a", DENIED, 0.0)
    watch.blame("b", DENIED, 1.0)
    verdict = watch.verdict(known(A, B), 2.0)
    assert verdict == Trouble(
        cause="access_denied", message="the key is refused (so on all 2 hosts)"
    )


def test_different_troubles_are_told_for_each_host() -> None:
    watch = watch_of(A, B)
    watch.blame("a", DENIED, 0.0)
    watch.blame("b", SKEWED, 1.0)
    verdict = watch.verdict(known(A, B), 2.0)
    assert verdict is not None
    assert verdict.cause == "no_hosts"
    assert verdict.message == ("no host is left: a: the key is refused; b: the clock is 1200 s off")


def test_a_host_that_nobody_has_tried_yet_is_left() -> None:
    watch = watch_of(A, B)
    watch.blame("a", DENIED, 0.0)
    watch.blame("b", DENIED, 0.0)
    assert watch.verdict(known(A, B, C), 0.0) is None


def test_a_worker_that_cannot_start_beside_others_that_work_is_not_its_hosts_trouble() -> None:
    watch = watch_of(A)
    watch.refuse_start(A, SKEWED, 0.0)
    assert not watch.resting(0.0)


def test_a_host_that_a_store_does_not_answer_rests_once_others_are_seen_to_be_answered() -> None:
    watch = watch_of(A, B)
    watch.hear("a", metrics(answers=5), 0.0)
    watch.hear("b", metrics(answers=5), 0.0)
    watch.hear("a", metrics(answers=5, silent=10.0), 10.0)
    watch.hear("b", metrics(answers=6), 11.0)
    watch.look(11.0)
    assert not watch.resting(11.0), "that answer may be older than the silence"
    watch.hear("b", metrics(answers=7), 10.0 + MARGIN_SECONDS)
    watch.look(16.0)
    assert watch.reasons(16.0) == {
        "a": "unavailable: the target answers other hosts, and does not answer this one"
    }


def test_a_store_that_answers_nobody_is_no_hosts_trouble() -> None:
    watch = watch_of(A, B)
    for now in range(0, 1000, 10):
        watch.hear("a", metrics(answers=5, silent=now + 1.0), float(now))
        watch.hear("b", metrics(answers=5, silent=now + 1.0), float(now))
        watch.look(float(now))
    assert not watch.resting(1000.0)


def test_a_silence_that_is_over_is_forgotten() -> None:
    watch = watch_of(A, B)
    watch.hear("a", metrics(answers=5, silent=10.0), 10.0)
    watch.hear("a", metrics(answers=6), 12.0)
    watch.hear("b", metrics(answers=7), 20.0)
    watch.look(20.0)
    assert not watch.resting(20.0)


def test_a_host_on_which_workers_end_again_and_again_rests() -> None:
    watch = watch_of(A, B)
    for number in range(LOSSES):
        watch.join(f"a{number}", A)
        watch.leave(f"a{number}", lost=True, now=float(number))
    assert set(watch.reasons(3.0)) == {"a"}


def test_workers_that_end_on_the_only_host_are_replaced_there() -> None:
    watch = watch_of(A)
    for number in range(5 * LOSSES):
        watch.join(f"a{number}", A)
        watch.leave(f"a{number}", lost=True, now=float(number))
    watch.doubt("a", Trouble(cause="leases_failed", message="."), 20.0)
    assert not watch.resting(20.0)


def test_work_that_fails_everywhere_bars_no_last_host() -> None:
    watch = watch_of(A, B)
    failed = Trouble(cause="leases_failed", message="its leases fail")
    watch.doubt("a", failed, 0.0)
    watch.doubt("b", failed, 1.0)
    assert set(watch.reasons(1.0)) == {"a"}


def test_hosts_of_one_name_are_told_apart() -> None:
    watch = watch_of(A)
    watch.join("2", Host(id="0123456789abcdef", name="a"))
    watch.blame("2", SKEWED, 0.0)
    assert set(watch.reasons(0.0)) == {"a (01234567)"}
