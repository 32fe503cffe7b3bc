"""Locations, sizes and job files: what is taken, and what is refused with one line of reason."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from noria.engine.config.jobfile import EndConfig
from noria.engine.config.locations import Scheme, parse_location, provider_of
from noria.engine.config.quantities import parse_size
from noria.engine.config.reading import job_config, read_job_file, with_endpoints
from noria.engine.config.refused_settings import ERRORS_MAX, WrongSettings, setting_lines
from noria.manifests.errors import ConfigurationError
from noria.manifests.model import ConflictPolicy

ENDS = {"source": {"url": "az://acc/cont/pre"}, "target": {"url": "s3://bucket"}}


@pytest.mark.parametrize(
    ("url", "account", "container", "path", "prefix"),
    [
        ("az://acc/cont", "acc", "cont", "", ""),
        ("az://acc/cont/", "acc", "cont", "", ""),
        ("az://acc/cont/a/b", "acc", "cont", "a/b", "a/b/"),
        ("az://acc/cont/a/b/", "acc", "cont", "a/b/", "a/b/"),
        ("s3://b", "", "b", "", ""),
        ("s3://b/p//q?x=1#y%20", "", "b", "p//q?x=1#y%20", "p//q?x=1#y%20/"),
        ("file:///a/b/../c/", "", "/a/c", "", ""),
        ("file:///a%20b", "", "/a b", "", ""),
    ],
)
def test_locations(url: str, account: str, container: str, path: str, prefix: str) -> None:
    location = parse_location(url)
    assert (location.account, location.container) == (account, container)
    assert (location.path, location.prefix) == (path, prefix)
    assert location.scheme == Scheme(url.split(":")[0])


@pytest.mark.parametrize(
    "url", ["", "bucket", "http://h/x", "az://acc", "az:///c", "s3://", "file://rel", "s3://k@b/x"]
)
def test_what_is_no_location(url: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_location(url)


def test_a_signature_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_location("https://acc.blob.core.windows.net/c?sv=1&sig=hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["az://a/c/p?sv=1&sig=hunter2", "az://a/c?sig=hunter2", "s3://b/k?X-Amz-Signature=hunter2"],
)
def test_a_signed_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="AZURE_STORAGE_SAS_TOKEN") as caught:
        parse_location(url)
    assert "hunter2" not in str(caught.value)


def test_endpoints_of_the_environment_are_written_down() -> None:
    job = job_config({"source": {"url": "s3://a"}, "target": {"url": "s3://b"}}, "here")
    here = with_endpoints(job, {"AWS_ENDPOINT_URL_S3": "https://s3.example.org"})
    assert here.source.endpoint == here.target.endpoint == "https://s3.example.org"
    own = EndConfig.model_validate({"url": "s3://b", "endpoint": "https://own.example.org"})
    mixed = with_endpoints(
        job.model_copy(update={"target": own}), {"AWS_ENDPOINT_URL": "https://s3.example.org"}
    )
    assert mixed.target.endpoint == "https://own.example.org"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 << 20),
        (5, 5),
        ("1.5GiB", 3 << 29),
        ("10 MB", 10_000_000),
        ("8M", 8 << 20),
        ("1.5 k", 1536),
        ("8Mi", 8 << 20),
        ("7", 7),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(5, 5), (0.5, 0.5), ("5", 5), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2 d", 172_800)],
)
def test_durations(written: object, seconds: float) -> None:
    run = job_config({**ENDS, "run": {"idle_seconds": written}}, "here").run
    assert run.idle_seconds == seconds
    assert job_config({**ENDS, "run": {"retry_seconds": "0"}}, "here").run.retry_seconds == 0


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        (0, 0),
        (1024, 1024),
        ("0", 0),
        ("1KiB/s", 1024),
        ("8 Mbit/s", 1e6),
        ("2MB/s", 2e6),
        ("2M/s", 2 << 20),
    ],
)
def test_rates(written: object, rate: float) -> None:
    assert job_config({**ENDS, "run": {"least_rate": written}}, "here").run.least_rate == rate


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("idle_seconds", "5 parsecs", "this is not a duration"),
        ("idle_seconds", "5m3", "this is not a duration"),
        ("idle_seconds", "-5m", "this is not a duration"),
        ("idle_seconds", "0m", "greater than 0"),
        ("idle_seconds", "99999w", "less than or equal"),
        ("least_rate", "fast", "this is not a rate"),
        ("least_rate", "8/s/s", "this is not a rate"),
        ("bytes_in_flight", "8 parsecs", "this is not a size"),
        ("bytes_in_flight", "8MiB, or so", "this is not a size"),
    ],
)
def test_what_is_none_of_them(name: str, written: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"run.{name}: .*{words}"):
        job_config({**ENDS, "run": {name: written}}, "here")


WRONG = """\
# a job
source = "az://acc"
directory = '''over
there'''
worker = 4

[target]
url = "s3://bucket"
[plan]
part_size = "8MiB"
"transfers" = 4
names = "gues"
[run]
idle_seconds = "soon"
[runn]
"""


def test_all_that_is_wrong_is_said_at_once_with_lines_and_nearest_names(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(WRONG)
    with pytest.raises(WrongSettings) as caught:
        read_job_file(path)
    said = [line.removeprefix(f"{path}, line ") for line in caught.value.lines]
    assert said[0].startswith("2: source.url: ")
    assert said[1].startswith("3: directory: ")
    assert said[2:5] == [
        "5: worker: no such setting",
        "10: plan.part_size: no such setting; did you mean part_bytes?",
        "11: plan.transfers: no such setting; it belongs in [run]",
    ]
    assert said[5].startswith("12: plan.names: it should be 'refuse' or 'escape'")
    assert said[6].startswith("14: run.idle_seconds: this is not a duration")
    assert said[7:] == ["15: runn: no such setting; did you mean run?"]
    assert all(line in caught.value.message for line in said)


def test_a_filter_has_nearest_names_too(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('[source]\nurl = "/a"\n[target]\nurl = "/b"\n[filter]\nexcludes = ["*.tmp"]\n')
    with pytest.raises(WrongSettings, match=r"line 6: filter\.excludes: .* did you mean exclude\?"):
        read_job_file(path)


def test_a_section_that_lacks_something_is_named_by_its_line() -> None:
    text = "\n[source]\nregion = 'a'\n[target]\nurl = 's3://b'"
    with pytest.raises(WrongSettings) as caught:
        job_config(tomllib.loads(text), "job.toml", setting_lines(text))
    assert caught.value.lines == ("job.toml, line 2: source.url: it is missing",)


def test_a_file_of_something_else_does_not_fill_the_screen() -> None:
    with pytest.raises(WrongSettings) as caught:
        job_config({**ENDS, **{f"name{number}": 1 for number in range(1000)}}, "here")
    assert len(caught.value.lines) == ERRORS_MAX + 1
    assert caught.value.lines[-1] == "here: and 980 more"


def test_lines_of_settings() -> None:
    text = "a.b = 1\n# a\n'c d' = [\n1,\n2]\n[e]\nf = {g = 1}\n\n[[h]]\ni = 1"
    assert setting_lines(text) == {
        ("a",): 1, ("a", "b"): 1, ("c d",): 3, ("e",): 6, ("e", "f"): 7, ("e", "f", "g"): 7,
        ("h",): 9, ("h", 0): 9, ("h", 0, "i"): 10,
    }  # fmt: skip
    assert setting_lines("a = 1\n" + "#\n" * 1000) == {}


def test_a_minimal_job_has_defaults() -> None:
    job = job_config(ENDS, "here")
    assert job.plan.part_bytes is None
    assert job.inventory.kind == "listing"
    assert job.run.workers == 0


@pytest.mark.parametrize(("text", "size"), [("auto", None), (None, None), ("24MiB", 24 << 20)])
def test_parts_may_be_left_to_the_plan(text: str | None, size: int | None) -> None:
    job = job_config({**ENDS, "plan": {"part_bytes": text}}, "here")
    assert job.plan.part_bytes == size
    assert job_config(job.model_dump(mode="json"), "again") == job


def test_ends_may_be_written_as_plain_urls(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('source = "file:///a"\ntarget = "s3://b"\n[plan]\nshard_bytes = "1GiB"\n')
    job = read_job_file(path)
    assert job.source.location.container == "/a"
    assert job.plan.shard_bytes == 1 << 30


@pytest.mark.parametrize(
    ("run", "conflicts"),
    [
        ({}, ConflictPolicy.REFUSE),
        ({"conflicts": "keep"}, ConflictPolicy.KEEP),
        ({"conflicts": "replace", "replace_foreign": True}, ConflictPolicy.REPLACE),
    ],
)
def test_what_others_wrote_is_replaced_only_if_it_is_said_twice(
    run: dict[str, object], conflicts: ConflictPolicy
) -> None:
    assert job_config({**ENDS, "run": run}, "job.toml").run.conflicts is conflicts


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"source": {"url": "az://acc"}}, "source.url"),
        ({"sauce": {}}, "sauce"),
        ({"plan": {"part_bytes": 0}}, "plan.part_bytes: "),
        ({"plan": {"part_bytes": "automatic"}}, "plan.part_bytes: "),
        ({"plan": {"chunk_bytes": "auto"}}, "plan.chunk_bytes: "),
        ({"run": {"workers": -1}}, "run.workers"),
        ({"inventory": {"kind": "guess"}}, "inventory.kind"),
        ({"target": {"url": "s3://b", "provider": "acme"}}, "acme"),
        ({"target": {"url": "s3://b", "storage_class": "source"}}, "target.storage_class"),
        ({"target": {"url": "s3://b", "storage_class": "a: b"}}, "target.storage_class"),
        ({"inventory": {"names": "relative"}}, "inventory: names"),
        ({"run": {"unfit_tags": "drop"}}, "run.unfit_tags"),
        ({"run": {"conflicts": "overwrite"}}, "run.conflicts"),
        ({"run": {"conflicts": "replace"}}, "set replace_foreign = true as well"),
    ],
)
def test_a_refusal_names_the_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        job_config({**ENDS, **change}, "job.toml")
    assert field in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("endpoint", "provider"),
    [
        ("https://s3.fr-par.scw.cloud", "scaleway"),
        ("https://s3.gra.io.cloud.ovh.net", "ovhcloud"),
        ("https://minio.example.org:9000", "s3"),
    ],
)
def test_the_provider_is_told_from_the_endpoint(endpoint: str, provider: str) -> None:
    end = EndConfig.model_validate({"url": "s3://b", "endpoint": endpoint})
    assert provider_of(end, {}) == provider


def test_the_environment_gives_the_endpoint_that_the_job_file_does_not() -> None:
    end = EndConfig.model_validate({"url": "s3://b"})
    assert provider_of(end, {}) == "aws"
    assert provider_of(end, {"AWS_ENDPOINT_URL": "https://s3.nl-ams.scw.cloud"}) == "scaleway"
