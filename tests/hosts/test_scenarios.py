"""Each scenario on hosts with one seed; `make partitions` plays them with many, and for longer.

The bounds of the oracle are seconds, and a machine may stand still for as long. So here a scenario
that shows a violation is played once more, with the same seed; `make partitions` counts each.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.hosts.bed import HostBed
from tests.hosts.scenarios import SCENARIOS, Scenario
from tests.hosts.scene import HostScene

log = logging.getLogger(__name__)

SEED = 1
LATER_SECONDS = 8.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "scenario", [one for one in SCENARIOS if one.in_tests], ids=lambda one: one.name
)
def test_whatever_happens_to_a_host_the_job_ends_and_nothing_comes_after_it(
    host_bed: HostBed, scenario: Scenario, tmp_path: Path
) -> None:
    try:
        play(host_bed, scenario, tmp_path / "first")
    except Exception:  # a wait that was in vain, too
        log.exception("played once more")
        play(host_bed, scenario, tmp_path / "second")


def play(bed: HostBed, scenario: Scenario, folder: Path) -> None:
    folder.mkdir()
    with HostScene(bed=bed, folder=folder, seed=SEED, later_seconds=LATER_SECONDS) as scene:
        scenario.play(scene)
        assert scene.faults > 0, "a scenario in which nothing happened shows nothing"
        assert scene.questions > 0
