"""[filter] of a job file: what is taken, and what is refused with one line of reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noria.engine.config.jobfile import JobConfig
from noria.engine.config.reading import job_config, read_job_file, with_settings
from noria.manifests.errors import ConfigurationError

ENDS = '[source]\nurl = "az://acc/cont"\n[target]\nurl = "s3://bucket"\n'
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def config_of(source: str = "az://acc/cont", kind: str = "listing", **filters: Any) -> JobConfig:
    values = {"source": {"url": source}, "target": {"url": "s3://bucket"}, "filter": filters}
    return job_config({**values, "inventory": {"kind": kind}}, "job.toml")


def read(folder: Path, section: str) -> JobConfig:
    path = folder / "job.toml"
    path.write_text(f"{ENDS}[filter]\n{section}\n")
    return read_job_file(path)


def test_a_job_file_says_it_all(tmp_path: Path) -> None:
    (tmp_path / "rules").write_bytes(
        b"\xef\xbb\xbf# comment\r\n; another\r\n\r\n  - *.tmp  \r\n!\n+ /a b/**\n- *"
    )
    config = read(
        tmp_path,
        'rules = ["- x"]\nrules_from = "rules"\nmin_size = 5\nmax_size = "10M"\n'
        "min_age = 90\nmax_age = 2026-01-31\n",
    )
    assert config.filter.asked == {
        "rules": ["- x", "- *.tmp", "!", "+ /a b/**", "- *"],
        "min_size": 5,
        "max_size": 10 * 1024 * 1024,
        "min_age": "90",
        "max_age": "2026-01-31",
    }


def test_ages_are_those_of_one_moment() -> None:
    found = config_of(min_age="1d", max_age="1w").filter.moments(NOW)
    assert found == (NOW - timedelta(days=7), NOW - timedelta(days=1))
    assert config_of().filter.moments(NOW) == (None, None)
    with pytest.raises(ConfigurationError, match="min_age 2d is more than max_age 1d"):
        config_of(min_age="2d", max_age="1d").filter.moments(NOW)


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"include": ["ok", "a[b"]}, "filter: 'a[b' is not a pattern: a [ is not closed"),
        ({"exclude": ["{{(}}"]}, "filter: '{{(}}' is not a pattern: missing )"),
        ({"rules": ["*.jpg"]}, "filter: '*.jpg' is not a rule"),
        ({"min_size": "10"}, "filter.min_size: this size has no unit"),
        ({"min_size": -1}, "filter.min_size: "),
        ({"max_age": "soon"}, "filter.max_age: this is not an age"),
        ({"max_age": True}, "filter.max_age: "),
        ({"min_size": "2M", "max_size": "1M"}, "min_size is more than max_size"),
        ({"tiers": ["a b"]}, "filter.tiers.0: this is not a tier or storage class; write Hot, or"),
        ({"tiers": [""]}, "filter.tiers.0: this is not a tier or storage class"),
        ({"tags": [""]}, "filter.tags.0: it is empty"),
        ({"include": "*.txt"}, "filter.include: it should be a list: [...]"),
        ({"includes": ["x"]}, "filter.includes: "),
    ],
)
def test_what_is_refused(filters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        config_of(**filters)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def test_a_job_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As editors on Windows write it."""
    path = tmp_path / "job.toml"
    path.write_text(f'{ENDS}[filter]\nmin_size = "1M"\n', "utf-8-sig")
    assert read_job_file(path).filter.min_size == 1 << 20
    path.write_text(f'{ENDS}[filter]\nmin_size = "1X"\n', "utf-8-sig")
    with pytest.raises(ConfigurationError, match=r"line \d+: filter.min_size"):
        read_job_file(path)


def test_a_file_of_rules_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("+ a\n\n- b]\n")
    with pytest.raises(ConfigurationError, match=r"rules, line 3: 'b\]' is not a pattern"):
        read(tmp_path, 'rules_from = "rules"')
    with pytest.raises(ConfigurationError, match=r"cannot read .*none: No such file"):
        read(tmp_path, 'rules_from = "none"')
    (tmp_path / "rules").write_bytes(b"- \xff")
    with pytest.raises(ConfigurationError, match="it is not UTF-8"):
        read(tmp_path, 'rules_from = "rules"')


@pytest.mark.parametrize(
    ("source", "kind", "filters"),
    [
        ("s3://b", "listing", {"types": ["a/b"]}),
        ("s3://b", "s3-inventory", {"exclude_tags": ["a"]}),
        ("file:///d", "listing", {"tiers": ["Hot"]}),
        ("az://a/c", "keys", {"max_age": "1d"}),
        ("az://a/c", "keys", {"exclude_tiers": ["Hot"]}),
    ],
)
def test_what_a_source_does_not_list_cannot_be_compared(
    source: str, kind: str, filters: dict[str, Any]
) -> None:
    (name,) = filters
    with pytest.raises(ConfigurationError, match=f"filter.{name} cannot be decided"):
        config_of(source, kind, **filters)


def test_the_command_line_goes_before_the_job_file(tmp_path: Path) -> None:
    config = read(tmp_path, 'include = ["a"]\nmax_size = "1K"')
    changed = with_settings(config, {"filter": {"include": ["b"], "min_age": "1d"}}, "noria plan")
    assert changed.filter.asked == {"include": ["b"], "max_size": 1024, "min_age": "1d"}
    assert changed.source == config.source
    assert changed.run == config.run
    assert with_settings(config, {"filter": {}}, "noria plan") is config
    with pytest.raises(ConfigurationError, match=r"noria plan: filter: 'x\]' is not"):
        with_settings(config, {"filter": {"include": ["x]"]}}, "noria plan")
