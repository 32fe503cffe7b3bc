"""promtool accepts configuration and rules, and sees every alert fire; the runbook has each."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from noria.benchmarks.servers import ROOT, find_tool
from noria.engine.config.locations import METRICS_ADDRESS
from noria.engine.metrics import METRICS, Kind

PROMETHEUS = ROOT / "deploy/prometheus"
RUNBOOK = (
    "{{ with $externalLabels.noria_docs }}{{ . }}/how-to/runbook.html"
    "{{ else }}deploy/RUNBOOK.md{{ end }}"
)
"""Where the documentation is served, if Prometheus knows that; else the file."""


def promtool(*words: str | Path) -> str:
    """What it prints; the test fails with that where it finds fault."""
    ran = subprocess.run(
        [find_tool("promtool"), *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def load(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for group in load("rules.yml")["groups"] for rule in group["rules"]]


def metric_names() -> set[str]:
    """Every name of ours that a query may use."""
    names = {"noria_job_info", "noria_build_info"}
    for metric in METRICS:
        match metric.kind:
            case Kind.GAUGE:
                names.add(metric.name)
            case Kind.COUNTER:
                names.add(f"{metric.name}_total")
            case Kind.HISTOGRAM:
                names |= {f"{metric.name}_{end}" for end in ("bucket", "count", "sum")}
    return names


def names_in(expression: str) -> set[str]:
    """Our metrics in a query; names of recording rules, which have a colon, left out."""
    return set(re.findall(r"(?<![\w:])noria_\w+(?![\w:])", expression))


def test_the_configuration_is_valid_and_scrapes_the_default_address() -> None:
    assert "SUCCESS" in promtool("check", "config", "scrape.yml")
    (scrape,) = load("scrape.yml")["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [METRICS_ADDRESS]}]


def test_rules_are_valid() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", "rules.yml")


def test_rules_do_what_they_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yml")


def test_rules_use_metrics_that_exist() -> None:
    for rule in rules():
        assert names_in(rule["expr"]) <= metric_names()


def test_every_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    fired: set[str] = set()
    quiet: set[str] = set()
    for test in load("rules_test.yml")["tests"]:
        for case in test.get("alert_rule_test", ()):
            (fired if case["exp_alerts"] else quiet).add(case["alertname"])
    assert fired == quiet == {rule["alert"] for rule in rules() if "alert" in rule}


def test_every_alert_has_its_place_in_the_runbook() -> None:
    runbook = (ROOT / "deploy/RUNBOOK.md").read_text()
    headings = re.findall(r"^## (\w+)$", runbook, flags=re.MULTILINE)
    alerts = [rule for rule in rules() if "alert" in rule]
    assert headings == [rule["alert"] for rule in alerts]
    for rule in alerts:
        place = rule["annotations"]["runbook_url"]
        assert place == f"{RUNBOOK}#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket", "info")


def test_the_operator_is_given_the_same_rules() -> None:
    given = yaml.safe_load((ROOT / "deploy/kuberay/prometheusrule.yaml").read_text())
    assert given["kind"] == "PrometheusRule"
    assert given["spec"]["groups"] == load("rules.yml")["groups"]
