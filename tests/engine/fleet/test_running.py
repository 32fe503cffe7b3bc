"""What a run of many datasets does once for each of them, and not twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from noria.engine import job, planning
from noria.engine.config.datasets import read_datasets_file
from noria.engine.fleet.directory import FleetDirectory
from noria.engine.fleet.running import FleetRun, FleetWork
from noria.manifests.manifest import freeze, reader

NAMES = ("one", "two", "three")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often this process has opened each manifest."""
    counts: Counter[str] = Counter()

    def counting(directory: Path) -> reader.Manifest:
        counts[directory.parent.name] += 1
        return reader.open_manifest(directory)

    for module in (job, planning, freeze):
        monkeypatch.setattr(module, "open_manifest", counting)
    return counts


def run_many(folder: Path) -> dict[str, str]:
    """`noria run` of a job file, in this process, at a relative path; what arrived."""
    lines = []
    for name in NAMES:
        (folder / "in" / name).mkdir(parents=True)
        (folder / "in" / name / "object").write_text(name)
        lines += ["[[datasets]]", f'name = "{name}"', f'source = "./in/{name}"']
        lines += [f'target = "./out/{name}"', ""]
    (folder / "many.toml").write_text("\n".join(lines))
    config = read_datasets_file(Path("many.toml"), {})
    fleet = FleetDirectory(Path("many"))
    fleet.create_or_add(config, [])

    work = FleetWork(run=config.settings.run, is_named=True)
    run = FleetRun(
        fleet, fleet.datasets(), work, workers=1, show=lambda status: None, say=lambda line: None
    )
    report = run.run()
    assert (report.well, report.refused) == (3, {})
    return {name: (folder / "out" / name / "object").read_text() for name in NAMES}


def test_a_plan_is_opened_once_and_run_as_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Counter[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_many(tmp_path) == {name: name for name in NAMES}
    assert opened == dict.fromkeys(NAMES, 1)
