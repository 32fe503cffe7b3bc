"""Addresses of stores as people copy them, and what a host's name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.engine.config.addresses import file_url
from noria.engine.config.jobfile import EndConfig
from noria.engine.config.locations import s3_endpoint, s3_path_style, s3_region
from noria.engine.config.reading import job_config, read_job_file
from noria.manifests.errors import ConfigurationError

AZURE = "https://acc.blob.core.windows.net"


@pytest.mark.parametrize(
    ("copied", "url", "endpoint"),
    [
        (f"{AZURE}/cont/a%20b/c", "az://acc/cont/a b/c", AZURE),
        (f"{AZURE}/cont", "az://acc/cont", AZURE),
        ("HTTPS://Acc.Blob.Core.Windows.Net/cont/A", "az://acc/cont/A", AZURE),
        ("https://acc.dfs.core.windows.net/cont/x/", "az://acc/cont/x/", AZURE),
        (
            "https://acc.blob.core.chinacloudapi.cn/cont",
            "az://acc/cont",
            "https://acc.blob.core.chinacloudapi.cn",
        ),
        (
            "https://acc.z13.blob.storage.azure.net/cont",
            "az://acc/cont",
            "https://acc.z13.blob.storage.azure.net",
        ),
        ("abfss://cont@acc.dfs.core.windows.net/a%20b", "az://acc/cont/a%20b", AZURE),
        ("wasbs://cont@acc.blob.core.windows.net", "az://acc/cont/", AZURE),
        (
            "http://127.0.0.1:10000/devstoreaccount1/cont/x",
            "az://devstoreaccount1/cont/x",
            "http://127.0.0.1:10000/devstoreaccount1",
        ),
        (
            "https://s3.eu-west-1.amazonaws.com/bucket/k%2B1",
            "s3://bucket/k+1",
            "https://s3.eu-west-1.amazonaws.com",
        ),
        (
            "https://my.bucket.s3.eu-west-1.amazonaws.com/k",
            "s3://my.bucket/k",
            "https://s3.eu-west-1.amazonaws.com",
        ),
        ("https://bucket.s3.amazonaws.com/k", "s3://bucket/k", "https://s3.amazonaws.com"),
        (
            "https://s3.dualstack.us-gov-west-1.amazonaws.com/bucket",
            "s3://bucket",
            "https://s3.dualstack.us-gov-west-1.amazonaws.com",
        ),
        (
            "https://bucket.s3.fr-par.scw.cloud/k",
            "s3://bucket/k",
            "https://s3.fr-par.scw.cloud",
        ),
        (
            "https://s3.gra.io.cloud.ovh.net/bucket",
            "s3://bucket",
            "https://s3.gra.io.cloud.ovh.net",
        ),
        ("s3a://bucket/k", "s3://bucket/k", None),
        ("S3://bucket/K", "s3://bucket/K", None),
        ("arn:aws:s3:::bucket/k", "s3://bucket/k", None),
        ("arn:aws:s3:::bucket", "s3://bucket", None),
        ("/data/a%20b", "file:///data/a%2520b", None),
        ("file:///data/x", "file:///data/x", None),
        ("az://acc/cont/x?y#z", "az://acc/cont/x?y#z", None),
    ],
)
def test_urls_as_people_copy_them(copied: str, url: str, endpoint: str | None) -> None:
    end = EndConfig.model_validate({"url": copied})
    assert (end.url, end.endpoint) == (url, endpoint)
    assert EndConfig.model_validate(end.model_dump(mode="json")) == end


@pytest.mark.parametrize(
    ("copied", "word"),
    [
        (AZURE, "container"),
        (f"{AZURE}/cont?restype=container", "query"),
        (f"{AZURE}/cont#x", "fragment"),
        ("https://user:hunter2@acc.blob.core.windows.net/c", "user"),
        ("abfss://cont/path", "abfss://CONTAINER@ACCOUNT"),
        ("https://minio.example.org:9000/bucket/k", "endpoint"),
        ("https://acc.blob.core.windows.net.evil.example.org/c", "endpoint"),
        ("https://bucket.s3-website-us-east-1.amazonaws.com/k", "endpoint"),
        ("http://acc.blob.core.windows.net/c", "endpoint"),
        ("gs://bucket", "storage.googleapis.com"),
        ("bucket", "://"),
        ("relative/path", "://"),
    ],
)
def test_what_cannot_be_known_is_refused_in_one_line(copied: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as caught:
        job_config({"source": {"url": copied}, "target": {"url": "s3://b"}}, "here")
    assert "\n" not in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_url_and_another_endpoint_contradict_each_other() -> None:
    ends = {"source": {"url": f"{AZURE}/c"}, "target": {"url": "s3://b"}}
    ends["source"]["endpoint"] = AZURE + "/"
    assert job_config(ends, "here").source.endpoint == AZURE
    ends["source"]["endpoint"] = "https://acc.blob.core.chinacloudapi.cn"
    with pytest.raises(ConfigurationError, match=r"source: .*names the endpoint"):
        job_config(ends, "here")


def test_a_relative_path_is_taken_from_where_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    end = EndConfig.model_validate({"url": "./a b"})
    assert end.location.container == str(tmp_path / "a b")
    (tmp_path / "jobs").mkdir()
    job_file = tmp_path / "jobs" / "job.toml"
    job_file.write_text('source = "./in"\n[target]\nurl = "../out"\n')
    config = read_job_file(job_file)
    assert config.source.location.container == str(tmp_path / "jobs" / "in")
    assert config.target.url == file_url(str(tmp_path / "out"))


def test_a_bare_path_is_one_if_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lake", "lake/in 1", "remote:lake", "jobs", "jobs/own"):
        (tmp_path / name).mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    for text in ("lake", "lake/", "lake/in 1", "dangling"):
        end = EndConfig.model_validate({"url": text})
        assert end.location.container == str(tmp_path / text)
    for text, words in (
        ("bucket", "neither a location nor a file or folder that is here"),
        ("lake/new", "neither a location nor"),
        ("remote:lake", "remote of another program"),
        ("remote:bucket", "is not a location"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            job_config({"source": {"url": text}, "target": {"url": "s3://b"}}, "here")
    job_file = tmp_path / "jobs" / "job.toml"
    job_file.write_text('source = "own"\ntarget = "s3://b"\n')
    assert read_job_file(job_file).source.url == file_url(str(tmp_path / "jobs/own"))
    job_file.write_text('source = "lake"\ntarget = "s3://b"\n')
    with pytest.raises(ConfigurationError, match="not beside the job file"):
        read_job_file(job_file)


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("https://s3.eu-west-3.amazonaws.com", "eu-west-3"),
        ("https://s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://bucket.vpce-1a2b-3c4d.s3.us-east-1.vpce.amazonaws.com", "us-east-1"),
        ("https://s3.fr-par.scw.cloud", "fr-par"),
        ("https://s3.nl-ams.scw.cloud:443/", "nl-ams"),
        ("https://s3.gra.io.cloud.ovh.net", "gra"),
        ("https://s3.gra.cloud.ovh.net", "gra"),
        ("https://s3.rbx.perf.cloud.ovh.net", "rbx"),
        ("https://oos.eu-west-2.outscale.com", "eu-west-2"),
        ("https://s3.eu-central-1.wasabisys.com", "eu-central-1"),
        ("https://s3.wasabisys.com", "us-east-1"),
        ("https://s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("https://ams3.digitaloceanspaces.com", "ams3"),
        ("https://fsn1.your-objectstorage.com", "fsn1"),
        (f"https://{'0123456789abcdef' * 2}.r2.cloudflarestorage.com", "auto"),
        ("https://storage.googleapis.com", "auto"),
        ("https://s3.oss-cn-hangzhou.aliyuncs.com", "oss-cn-hangzhou"),
        ("https://s3.amazonaws.com", None),
        ("https://minio.example.org", None),
        ("http://127.0.0.1:9000", None),
    ],
)
def test_the_region_is_told_from_the_endpoint(endpoint: str, region: str | None) -> None:
    end = EndConfig.model_validate({"url": "s3://b", "endpoint": endpoint})
    assert s3_region(end, {"AWS_REGION": "eu-north-1"}) == region
    named = EndConfig.model_validate({"url": "s3://b", "endpoint": endpoint, "region": "mine"})
    assert s3_region(named, {}) == "mine"


@pytest.mark.parametrize(
    ("bucket", "endpoint", "stated", "in_path"),
    [
        ("b", None, None, None),
        ("b", "https://s3.eu-west-1.amazonaws.com", None, False),
        ("b.c", "https://s3.eu-west-1.amazonaws.com", None, True),
        ("b", "https://s3.oss-cn-hangzhou.aliyuncs.com", "auto", False),
        ("b", "https://s3.fr-par.scw.cloud", None, True),
        ("b", "https://minio.example.org", None, None),
        ("b", "https://minio.example.org", False, False),
        ("b", "https://s3.eu-west-1.amazonaws.com", True, True),
    ],
)
def test_where_the_bucket_goes(
    bucket: str, endpoint: str | None, stated: object, in_path: bool | None
) -> None:
    end = EndConfig.model_validate(
        {"url": f"s3://{bucket}", "endpoint": endpoint, "path_style": stated}
    )
    assert s3_path_style(end, {}) is in_path


CONFIG = "[default]\nendpoint_url = https://d.example.org\n[profile p]\nendpoint_url = {}\n"


@pytest.mark.parametrize(
    ("profile", "environment", "endpoint"),
    [
        (None, {}, "https://d.example.org"),
        (None, {"AWS_ENDPOINT_URL": "https://e.example.org\n"}, "https://e.example.org"),
        (
            None,
            {"AWS_ENDPOINT_URL": "https://e.example.org", "AWS_ENDPOINT_URL_S3": "https://s.org"},
            "https://s.org",
        ),
        ("p", {"AWS_ENDPOINT_URL": "https://e.example.org"}, "https://p.example.org"),
        (None, {"AWS_PROFILE": "p"}, "https://p.example.org"),
        (
            None,
            {"AWS_ENDPOINT_URL": "https://e.org", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            None,
        ),
    ],
)
def test_where_the_endpoint_is_from(
    tmp_path: Path, profile: str | None, environment: dict[str, str], endpoint: str | None
) -> None:
    (tmp_path / "config").write_text(CONFIG.format("https://p.example.org"))
    end = EndConfig.model_validate({"url": "s3://b", "profile": profile})
    found = s3_endpoint(end, {"AWS_CONFIG_FILE": str(tmp_path / "config"), **environment})
    assert found == endpoint


@pytest.mark.parametrize("value", ["s3.example.org", "https://user:hunter2@h", "ftp://h"])
def test_an_endpoint_that_is_none_is_refused_by_its_name(value: str) -> None:
    end = EndConfig.model_validate({"url": "s3://b"})
    with pytest.raises(ConfigurationError, match="AWS_ENDPOINT_URL_S3") as caught:
        s3_endpoint(end, {"AWS_ENDPOINT_URL_S3": value})
    assert "hunter2" not in caught.value.message


def test_a_profile_of_another_provider_than_the_url(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(CONFIG.format("https://s3.nl-ams.scw.cloud"))
    environment = {"AWS_CONFIG_FILE": str(tmp_path / "config")}
    url = "https://s3.{}.scw.cloud/b"
    same = EndConfig.model_validate({"url": url.format("nl-ams"), "profile": "p"})
    assert s3_endpoint(same, environment) == "https://s3.nl-ams.scw.cloud"
    other = EndConfig.model_validate({"url": url.format("fr-par"), "profile": "p"})
    with pytest.raises(ConfigurationError, match=r"profile p .*nl-ams.*fr-par"):
        s3_endpoint(other, environment)


def test_nothing_is_written_without_credentials() -> None:
    with pytest.raises(ConfigurationError, match="target: anonymous"):
        job_config(
            {"source": {"url": "s3://a"}, "target": {"url": "s3://b", "anonymous": True}}, "here"
        )
