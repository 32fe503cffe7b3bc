"""The rules of Grafana's dashboard-linter, for dashboards of Prometheus alone.

Its own program is not needed: each rule is one function below, under the linter's name, and the
exclusions of a `.lint` file beside the dashboards are heeded as it does. The two rules for queries
of Loki find nothing to say, and are here to be seen to hold.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from noria.benchmarks.servers import find_tool

Dashboard = dict[str, Any]
Found = Iterator[tuple[str, str]]
"""(panel, or empty for the dashboard; what is wrong with it)."""
Rule = Callable[[Dashboard], Found]

SHOWING = ("stat", "timeseries", "bargauge", "heatmap", "table", "gauge")
UNITS = {
    *("none", "short", "locale", "percent", "percentunit", "bytes", "decbytes", "Bps", "binBps"),
    *("s", "ms", "ops", "reqps", "cps", "dtdurations", "dateTimeAsIso", "bool"),
}
"""Those of Grafana's that are used here; the linter knows them all."""
_SELECTOR = re.compile(r"\b[a-zA-Z_:][\w:]*\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w:$\"])(?:noria_|process_|instance\w*:)[\w:]*(?![\w:(\"])")
_RANGE = re.compile(r"\[([^\]]+)\]")
_AGGREGATED = re.compile(r"\b(?:rate|irate|increase)\(\s*([\w:]+_total)\b")


def panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets(dashboard: Dashboard) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            yield panel["title"], target


def variables(dashboard: Dashboard) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def template_datasource(dashboard: Dashboard) -> Found:
    sources = [each for each in variables(dashboard).values() if each["type"] == "datasource"]
    if [(each["name"], each["query"]) for each in sources] != [("datasource", "prometheus")]:
        yield "", "one variable `datasource` chooses the Prometheus"


def _template(dashboard: Dashboard, name: str, label: str) -> Found:
    variable = variables(dashboard).get(name)
    if variable is None:
        yield "", f"there is no variable {name}"
        return
    wanted = {
        "type": "query",
        "label": label,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
    }
    for key, value in wanted.items():
        if variable.get(key) != value:
            yield "", f"{key} of the variable {name} is not {value}"


def template_job(dashboard: Dashboard) -> Found:
    return _template(dashboard, "job", "Job")


def template_instance(dashboard: Dashboard) -> Found:
    return _template(dashboard, "instance", "Instance")


def template_label_promql(dashboard: Dashboard) -> Found:
    asked = []
    for name, variable in variables(dashboard).items():
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), *(\w+)\)", variable["definition"])
            if found is None or variable["query"]["query"] != variable["definition"]:
                yield "", f"the variable {name} is not label_values(QUERY, LABEL)"
            else:
                asked.append((name, found[1]))
    yield from _not_promql(asked)


def template_on_time_change_reload(dashboard: Dashboard) -> Found:
    for name, variable in variables(dashboard).items():
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield "", f"the variable {name} is not asked for again if the time range changes"


def panel_datasource(dashboard: Dashboard) -> Found:
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels(dashboard):
        for source in (panel, *panel.get("targets", ())):
            if source.get("datasource") != wanted:
                yield panel["title"], "it does not ask the chosen Prometheus"


def panel_title_description(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        if not panel.get("title") or not panel.get("description", "").endswith("."):
            yield panel.get("title", ""), "it has no title, or no description"


def panel_units(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if panel["type"] in SHOWING and unit not in UNITS:
            yield panel["title"], f"{unit} is not a unit"


def panel_no_targets(dashboard: Dashboard) -> Found:
    for panel in panels(dashboard):
        if panel["type"] in SHOWING and not panel.get("targets"):
            yield panel["title"], "it asks nothing"


def _of_loki(dashboard: Dashboard) -> Found:
    for title, target in targets(dashboard):
        if target["datasource"]["type"] == "loki":
            yield title, "a query of Loki"


def target_promql(dashboard: Dashboard) -> Found:
    yield from _not_promql((title, target["expr"]) for title, target in targets(dashboard))


def target_rate_interval(dashboard: Dashboard) -> Found:
    for title, target in targets(dashboard):
        for interval in _RANGE.findall(target["expr"]):
            if interval != "$__rate_interval":
                yield title, f"a range of {interval}, not of $__rate_interval"


def _matched(dashboard: Dashboard, label: str) -> Found:
    for title, target in targets(dashboard):
        query = target["expr"]
        selectors = _SELECTOR.findall(query)
        if any(f'{label}=~"${label}"' not in selector for selector in selectors):
            yield title, f"a series is not of the chosen {label}: {query}"
        if len(_NAME.findall(_SELECTOR.sub(lambda found: found[0].partition("{")[0], query))) > len(
            selectors
        ):
            yield title, f"a series without a selector: {query}"


def target_job(dashboard: Dashboard) -> Found:
    return _matched(dashboard, "job")


def target_instance(dashboard: Dashboard) -> Found:
    return _matched(dashboard, "instance")


def target_counter_agg(dashboard: Dashboard) -> Found:
    for title, target in targets(dashboard):
        counters = re.findall(r"\b[\w:]+_total\b", target["expr"])
        if len(counters) > len(_AGGREGATED.findall(target["expr"])):
            yield title, f"a counter without rate, irate or increase: {target['expr']}"


def uneditable_dashboard(dashboard: Dashboard) -> Found:
    if dashboard["editable"]:
        yield "", "what is changed in the browser is lost: it comes from a file"


RULES: dict[str, Rule] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_job,
    "template-instance-rule": template_instance,
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-logql-rule": _of_loki,
    "target-logql-auto-rule": _of_loki,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_job,
    "target-instance-rule": target_instance,
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard-rule": uneditable_dashboard,
}


def complaints(dashboard: Dashboard, lint_file: Path | None = None) -> list[str]:
    """What the rules find, without what the file excludes."""
    excluded = set()
    if lint_file is not None:
        for rule, given in yaml.safe_load(lint_file.read_text())["exclusions"].items():
            excluded |= {(rule, each["dashboard"], each["panel"]) for each in given["entries"]}
    return [
        f"{rule}: {panel or dashboard['title']}: {what}"
        for rule, look in RULES.items()
        for panel, what in look(dashboard)
        if (rule, dashboard["title"], panel) not in excluded
    ]


def _not_promql(queries: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> Found:
    """Those that Prometheus's own parser refuses."""
    asked = [
        (title, query.replace("$__rate_interval", "4m").replace("$job", "a").replace("$", ""))
        for title, query in queries
    ]
    rules = [{"record": f"r:{number}", "expr": query} for number, (_, query) in enumerate(asked)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump({"groups": [{"name": "queries", "rules": rules}]}, file)
        file.flush()
        ran = subprocess.run(
            [find_tool("promtool"), "check", "rules", file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    if ran.returncode != 0:
        for number in sorted({int(each) for each in re.findall(r'"r:(\d+)"', ran.stderr)}):
            yield asked[number][0], f"not PromQL: {asked[number][1]}"
        if not re.search(r'"r:(\d+)"', ran.stderr):
            yield "", ran.stdout + ran.stderr
