"""Locations, sizes and job files: what is taken, and what is refused with one line of reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.engine.config.jobfile import (
    EndConfig,
    job_config,
    parse_size,
    read_job_file,
    with_endpoints,
)
from noria.engine.config.locations import Scheme, parse_location, provider_of
from noria.manifests.errors import ConfigurationError

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
    ("text", "size"), [("64MiB", 64 << 20), (5, 5), ("1.5GiB", 3 << 29), ("10 MB", 10_000_000)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


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
