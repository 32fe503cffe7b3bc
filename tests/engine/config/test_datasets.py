"""Job files that name many datasets: what is taken; what is refused, all at once, with lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.engine.config.datasets import (
    FleetConfig,
    made_datasets,
    names_datasets,
    read_datasets_file,
)
from noria.engine.config.reading import read_job_file
from noria.engine.config.refused_settings import WrongSettings
from noria.engine.fleet.directory import FleetDirectory
from noria.manifests.errors import ConfigurationError


def read(folder: Path, text: str, **given: dict[str, object]) -> FleetConfig:
    path = folder / "many.toml"
    path.write_text(text)
    return read_datasets_file(path, given)


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(WrongSettings) as error:
        read(folder, text)
    return [line.removeprefix(str(folder / "many.toml")) for line in error.value.lines]


TWO = """
[source]
endpoint = "https://ceph.example:9000"

[plan]
shard_objects = 500

[[datasets]]
name = "genomes"
source = "s3://genomes"
target = "s3://all/genomes/"
priority = 5

[[datasets]]
name = "images"
source = { url = "s3://images/2024", region = "eu-1" }
target = { url = "s3://all/images", storage_class = "GLACIER_IR" }
weight = 2.5
"""


def test_what_the_sections_say_holds_for_all(tmp_path: Path) -> None:
    config = read(tmp_path, TWO, run={"bandwidth": "1MB/s"}, plan={"part_bytes": "8M"})
    genomes, images = config.datasets
    assert (genomes.name, genomes.priority, genomes.weight) == ("genomes", 5, 1.0)
    assert (images.name, images.priority, images.weight) == ("images", 0, 2.5)
    for each in config.datasets:
        assert each.config.source.endpoint == "https://ceph.example:9000"
        assert (each.config.plan.shard_objects, each.config.plan.part_bytes) == (500, 8 << 20)
        assert each.config.run.bandwidth == 1_000_000
    assert images.config.source.region == "eu-1"
    assert str(images.config.source.location) == "s3://images/2024"
    assert images.config.target.storage_class == "GLACIER_IR"
    assert genomes.config.target.storage_class is None
    assert config.settings.run.bandwidth == 1_000_000


def test_a_small_dataset_is_one_shard_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    assert read(tmp_path, TWO).datasets[0].config.plan.least_shards == 1
    said = read(tmp_path, TWO.replace("shard_objects = 500", "least_shards = 8"))
    assert said.datasets[0].config.plan.least_shards == 8


def test_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    text = '[[datasets]]\nname = "a"\nsource = "./in/a"\ntarget = "../out/a"\n'
    (one,) = read(tmp_path, text).datasets
    assert one.config.source.location.container == str(tmp_path / "in/a")
    assert one.config.target.location.container == str(tmp_path.parent / "out/a")


def test_a_job_file_of_one_is_not_of_many_and_the_other_way_round(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('[source]\nurl = "s3://a"\n[target]\nurl = "s3://b"\n')
    assert not names_datasets(path)
    assert not names_datasets(tmp_path / "missing.toml")
    path.write_text(TWO)
    assert names_datasets(path)
    with pytest.raises(ConfigurationError, match="names many datasets"):
        read_job_file(path)


WRONG = """
[run]
streems = 3

[[datasets]]
name = "ok"
source = "s3://ok"
target = "s3://all/ok/"

[[datasets]]
source = "s3://unnamed"
target = "s3://all/unnamed"

[[datasets]]
name = "OK"
source = "s3://other"
target = "s3://all/ok/below"

[[datasets]]
name = "../up"
source = "s3://ok"
target = "nowhere"
priority = "high"

[[datasets]]
name = ".hidden"
# a comment
source = "s3://hidden"
target = "s3://all"

[[datasets]]
name = "no-target"
source = "s3://nothing"

[[datasets]]
name = "typo"
sorce = "s3://nothing"
target = "s3://t"
[[datasets]]
name = "twice"
source = "s3://ok/"
target = "s3://elsewhere"
"""


def test_all_faults_are_said_at_once_with_their_lines(tmp_path: Path) -> None:
    found = refused(tmp_path, WRONG)
    for expected in (
        ", line 3: run.streems: no such setting; did you mean streams?",
        ", line 10: it has no name; each dataset has one",
        ", line 15: name: OK is there already, whatever the case of its letters",
        ", line 17: target: it is below, above or the same as the target of .hidden",
        ", line 23: priority: it should be a valid integer",
        ", line 26: name: write letters, digits, dots, - and _, up to 100; no dot first",
        ", line 31: target: it is missing",
        ", line 35: source: it is missing",
        ", line 37: sorce: no such setting; a dataset has name, source, target, priority, weight, "
        "include, exclude",
        ", line 41: source: ok has the same source",
    ):
        assert any(line == expected or line.startswith(expected) for line in found), (
            expected, found,
        )  # fmt: skip


def test_what_would_hold_for_one_of_them_alone_is_refused(tmp_path: Path) -> None:
    text = """
[proof]
signing_key = "key"
"""
    one = 'source = { url = "./images", guard = { command = "true" } }'
    text += TWO.replace('source = { url = "s3://images/2024", region = "eu-1" }', one)
    said = refused(tmp_path, text)
    for name, why in (
        ("proof.signing_key", "would not hold for many"),
        ("source: guard", "write it as [source.guard]"),
    ):
        assert sum(f"{name}: " in line and why in line for line in said) == 1, name


def test_rates_windows_and_guards_are_of_all_and_may_change_later(tmp_path: Path) -> None:
    head = """
[run]
source_requests_per_second = 5
[[windows]]
days = "mon-fri"
from = "08:00"
to = "18:00"
bandwidth = "1MB/s"
[target.guard]
latency_factor = 3
"""
    (tmp_path / "many.toml").write_text(head + TWO)
    config = read_datasets_file(tmp_path / "many.toml", {})
    fleet = FleetDirectory(tmp_path / "many")
    fleet.create_or_add(config, [])
    assert fleet.run_config() == config.settings.run
    run = fleet.run_config()
    assert (run.source_requests_per_second, run.windows[0].bandwidth) == (5, 1_000_000)
    assert run.target_guard is not None
    assert run.target_guard.latency_factor == 3
    later = head.replace("18:00", "20:00").replace("latency_factor = 3", "latency_factor = 2")
    (tmp_path / "many.toml").write_text(later + TWO)
    assert not fleet.create_or_add(read_datasets_file(tmp_path / "many.toml", {}), []).names
    (tmp_path / "many.toml").write_text(head.replace("latency_factor = 3", "speed = 3") + TWO)
    with pytest.raises(WrongSettings, match=r"line 10: target\.guard\.speed: no such setting"):
        read_datasets_file(tmp_path / "many.toml", {})


def test_faults_are_counted_beyond_the_first_twenty(tmp_path: Path) -> None:
    text = "".join(
        f'[[datasets]]\nname = ".{n}"\nsource = "s3://a{n}"\ntarget = "s3://b{n}"\n'
        for n in range(50)
    )
    found = refused(tmp_path, text)
    assert len(found) == 21
    assert found[-1] == ": and 30 more"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://all/a", "s3://all/a/"),
        ("s3://all", "s3://all/a/"),
        ("s3://all/a/", "s3://all/a/b/c"),
        ("./out", "./out/a"),
        ("az://acc/all/x", "az://acc/all/x/y/"),
    ],
)
def test_no_dataset_writes_below_another(tmp_path: Path, one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        text = (
            f'[[datasets]]\nname = "a"\nsource = "s3://x"\ntarget = "{first}"\n'
            f'[[datasets]]\nname = "b"\nsource = "s3://y"\ntarget = "{second}"\n'
        )
        (line,) = refused(tmp_path, text)
        assert "as the target of" in line


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://all/a", "s3://all/ab"),
        ("s3://all/a", "s3://al/a"),
        ("az://one/all/x", "az://two/all/x"),
        ("./out/a", "./out/b"),
    ],
)
def test_targets_beside_each_other_are_taken(tmp_path: Path, one: str, other: str) -> None:
    text = (
        f'[[datasets]]\nname = "a"\nsource = "s3://x"\ntarget = "{one}"\n'
        f'[[datasets]]\nname = "b"\nsource = "s3://y"\ntarget = "{other}"\n'
    )
    assert len(read(tmp_path, text).datasets) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("datasets = []", "there are 0"),
        ("datasets = 3", "write each as a section"),
        ('datasets = ["a"]', "write each as a section"),
        ('[source]\nurl = "s3://x"\n' + TWO.partition("[plan]")[2].replace("", ""), "source"),
        ("[[datasets]\n", "is not valid TOML"),
        (TWO.replace("[plan]", '[inventory]\nkind = "keys"\nurl = "./k"\n[plan]'), "inventory"),
    ],
)
def test_what_is_no_file_of_datasets_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        read(tmp_path, text)


@pytest.mark.parametrize("source", ["s3://all/a/", "s3://all/a/below", "s3://all"])
def test_no_dataset_reads_what_another_writes(tmp_path: Path, source: str) -> None:
    text = (
        f'[[datasets]]\nname = "b"\nsource = "{source}"\ntarget = "s3://other"\n'
        '[[datasets]]\nname = "a"\nsource = "s3://x"\ntarget = "s3://all/a"\n'
    )
    (line,) = refused(tmp_path, text)
    assert line == ", line 3: source: a writes there, below or above it"
    beside = text.replace(f'source = "{source}"', 'source = "s3://all/ab"')
    assert len(read(tmp_path, beside).datasets) == 2


PATTERN = """
[[datasets]]
source = "az://account/*"
target = "s3://all/{container}/"
include = ["proj-*"]
exclude = ["*-tmp"]
priority = 1
"""


def test_a_pattern_says_what_becomes_of_a_container(tmp_path: Path) -> None:
    (pattern,) = read(tmp_path, PATTERN).patterns
    assert [each for each in ("proj-a", "proj-tmp", "other") if pattern.takes(each)] == ["proj-a"]
    (made,) = made_datasets({}, [(0, pattern.entry("proj-a"))])
    assert (made.name, made.priority) == ("proj-a", 1)
    assert str(made.config.source.location) == "az://account/proj-a/"
    assert str(made.config.target.location) == "s3://all/proj-a/"


def test_a_pattern_may_name_buckets_and_datasets(tmp_path: Path) -> None:
    text = PATTERN.replace("s3://all/{container}/", "s3://{container}-copy").replace(
        "[[datasets]]", '[[datasets]]\nname = "z-{container}"'
    )
    (pattern,) = read(tmp_path, text).patterns
    (made,) = made_datasets({}, [(0, pattern.entry("proj-a"))])
    assert made.name == "z-proj-a"
    assert made.config.target.location.container == "proj-a-copy"


def test_a_pattern_of_folders_takes_names_as_they_are(tmp_path: Path) -> None:
    text = '[[datasets]]\nsource = "./in/*"\ntarget = "./out/{container}"\nname = "p.{container}"\n'
    (pattern,) = read(tmp_path, text).patterns
    entry = pattern.entry("50%25")
    assert entry["source"]["url"] == f"file://{tmp_path}/in/50%2525"
    assert entry["target"]["url"] == f"file://{tmp_path}/out/50%2525"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("{container}/", "all/"), "target: what is found needs one each"),
        (("az://account/*", "az://account/data/*"), "source: what is found are whole containers"),
        (("[[datasets]]", '[[datasets]]\nname = "all"'), "name: what is found needs one each"),
        (("az://account/*", "az://account/x"), "it has no name"),
    ],
)
def test_a_pattern_that_says_too_little_is_refused(
    tmp_path: Path, change: tuple[str, str], why: str
) -> None:
    (line,) = refused(tmp_path, PATTERN.replace(*change))
    assert why in line


def test_a_thousand_datasets_are_read_in_no_time(tmp_path: Path) -> None:
    text = "".join(
        f'[[datasets]]\nname = "set-{n:04}"\nsource = "az://account/set-{n:04}"\n'
        f'target = "s3://all/set-{n:04}/"\n'
        for n in range(1000)
    )
    assert len(read(tmp_path, text).datasets) == 1000
