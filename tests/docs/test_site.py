"""The site that `make docs` builds: what the code has is in it, and its links lead somewhere."""

from __future__ import annotations

import ast
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from docs.assemble import RESULTS, ROOT, assemble, lines_of, turned
from docs.built_site import troubles
from docs.reference import reference_pages
from docs.reference.commands import commands
from docs.reference.metrics import shown_name
from docs.reference.settings import SECTIONS, settings
from noria.engine.cluster.protocol import START_FAILED
from noria.engine.config.jobfile import JobConfig
from noria.engine.metrics import ENDINGS, ERRORS, METRICS, STOPS
from noria.engine.scheduler.scheduler import LEASES_FAILED
from noria.engine.terminal.report import CHANGES, DAMAGE, PASSED_OVER, REASONS
from noria.manifests.errors import NoriaError
from noria.manifests.job.differences import DIFFERENCES
from noria.manifests.model import AttributeChange, PassedOver, Reason

TROUBLESHOOT = "how-to/troubleshoot.md"
ENDERS = ("_stop", "_lose", "_fault", "Trouble", "Lost", "LoseWorker")
"""Calls that end a run, a worker or its work, with a word why."""
FINDERS = {"_note": 0, "lacking": 0, "_reached": 1}
"""Functions that make a finding of `noria doctor` which says what to do, and where its topic is."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of every page of the site, by its place."""
    folder = tmp_path_factory.mktemp("site") / "source"
    assemble(folder)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.md")} | {
        str(path.relative_to(folder)): "" for path in folder.rglob("*") if path.suffix != ".md"
    }


def anchors(text: str) -> set[str]:
    """The anchors of a page, as Python-Markdown names them."""
    found = set()
    for prose, line in lines_of(text):
        if prose:
            found |= set(re.findall(r"\{[^}]*#([\w-]+)[^}]*\}", line))
            if heading := re.match(r"#{1,6} (.*)", line):
                words = re.sub(r"\{[^}]*\}|[`*]|\]\([^)]*\)|\[", "", heading[1])
                plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
                plain = re.sub(r"[^\w\s-]", "", plain).strip().lower()
                found.add(re.sub(r"[-\s]+", "-", plain))
    return found


# -- links -----------------------------------------------------------------------------------------


def test_every_link_inside_the_site_leads_somewhere(site: dict[str, str]) -> None:
    wrong = []
    for page, text in site.items():
        for prose, line in lines_of(text):
            for url in re.findall(r"\]\(([^)\s]+)\)", line) if prose else ():
                path, _, anchor = url.partition("#")
                if re.match(r"[a-z]+:", url):
                    continue
                place = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
                target = place if path else page
                if target not in site or (anchor and anchor not in anchors(site[target])):
                    wrong.append(f"{page}: {url}")
    assert not wrong


def test_every_page_is_in_the_navigation(site: dict[str, str]) -> None:
    text = (ROOT / "docs/mkdocs.yml").read_text()
    named = set(re.findall(r"[\w/.-]+\.md\b", text.partition("\nnav:\n")[2]))
    pages = {page for page in site if page.endswith(".md")}
    reports = {page for page in pages if page.startswith(RESULTS[1])}
    assert named == pages - reports
    for report in reports:
        assert Path(report).name in site["explanation/benchmarks.md"], "nothing leads to it"
    assert yaml.safe_load(text)["theme"]["font"] is False


def test_links_of_a_document_are_turned_to_their_places_in_the_site() -> None:
    text = "[a](RIGHTS.md#aws) ![b](benchmarks/results/x.png) [`c`](tests/y.py) [d](README.md)\n"
    assert turned(text, "CLOUDS.md") == (
        "[a](rights.md#aws) ![b](../explanation/results/x.png) `c` [d](../index.md)\n"
    )
    assert turned("```\n[a](RIGHTS.md)\n```\n", "CLOUDS.md") == "```\n[a](RIGHTS.md)\n```\n"


# -- what is generated -----------------------------------------------------------------------------


def test_every_command_and_option_is_in_the_reference() -> None:
    page = reference_pages()["reference/commands.md"]
    names = []
    for name, command, context in commands():
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        names.append(name)
        for parameter in command.get_params(context):
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert all(f"{option}" in section for option in parameter.opts), (name, parameter)
    assert {"noria", "noria copy", "noria check", "noria bench"} <= set(names)


def test_every_setting_is_in_the_reference_with_its_meaning() -> None:
    page = reference_pages()["reference/job-file.md"]
    for section, model, _ in SECTIONS:
        for setting in settings(model):
            assert setting.meaning, f"{section}.{setting.name}: say below the field what it means"
            assert section == "target" or f"{{#{section}-{setting.name}}}" in page


def test_every_section_of_a_job_file_is_on_the_page() -> None:
    sections = {
        name
        for name, field in JobConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    assert {name for name, _, _ in SECTIONS} == sections | {"windows", "guard"}  # are kept in [run]


def test_settings_have_their_bounds_and_defaults() -> None:
    page = reference_pages()["reference/job-file.md"]
    rows = {
        row.split("`")[1]: [cell.strip() for cell in row.split(" | ")]
        for row in page.partition("## `[run]`")[2].splitlines()
        if row.startswith("| `")
    }
    assert rows["leases"][1:3] == ["1 to 16", "2"]
    assert rows["retry_seconds"][1:3] == ["duration, or 0", "300 s"]
    assert rows["range_bytes"][1:3] == ["size", "64 MiB"]
    assert rows["log_format"][1:3] == ['`"text"` or `"json"`', '`"text"`']


def test_every_metric_is_in_the_reference() -> None:
    page = reference_pages()["reference/metrics.md"]
    assert not [metric.name for metric in METRICS if f"| `{shown_name(metric)}` |" not in page]


def test_every_exit_code_is_in_the_reference() -> None:
    page = reference_pages()["reference/exit-codes.md"]
    first = page.partition("## noria\n")[2].partition("\n## ")[0]
    assert [line.split(" | ")[0] for line in first.splitlines() if line[2:3].isdigit()] == [
        "| 0", "| 1", "| 2", "| 3",
    ]  # fmt: skip


# -- ways out --------------------------------------------------------------------------------------


def test_every_reason_has_words() -> None:
    assert set(REASONS) == set(Reason)
    assert set(CHANGES) == set(AttributeChange)
    assert set(PASSED_OVER) == set(PassedOver)


def test_every_cause_has_a_place_that_says_what_to_do(site: dict[str, str]) -> None:
    causes = {*ENDINGS, *ERRORS, *REASONS, *DAMAGE, *DIFFERENCES} - {NoriaError.cause}
    assert not {str(cause) for cause in causes} - anchors(site[TROUBLESHOOT])


def test_every_word_for_the_end_of_a_run_or_a_worker_has_a_place(site: dict[str, str]) -> None:
    words = {*STOPS, *words_for_ends()} - {"failed", "fatal"}  # said if a worker gives no cause
    assert {"stalled", "heartbeat_expired", "leases_failed", "no_hosts", "workers_lost"} <= words
    assert not words - anchors(site[TROUBLESHOOT])


def words_for_ends() -> set[str]:
    """Why a run ends, or a worker or its work is given up, as the code names it."""
    found = {START_FAILED, LEASES_FAILED}
    files = ("driver.py", "hosts.py", "scheduler/scheduler.py", "cluster/ray.py", "fleet/pool.py")
    for path in files:
        for node in ast.walk(ast.parse((ROOT / "engine" / path).read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name in ENDERS:
                values = [*node.args[:2], *(each.value for each in node.keywords[:2])]
                found |= {
                    str(value.value)
                    for value in values
                    if isinstance(value, ast.Constant) and re.fullmatch("[a-z_]+", str(value.value))
                }
    return found


def test_every_finding_of_doctor_has_a_place_that_says_what_to_do(site: dict[str, str]) -> None:
    topics = {f"doctor-{topic}" for topic in doctor_topics()}
    assert {"doctor-clock", "doctor-inventory", "doctor-uploads-list", "doctor-may-write"} <= topics
    assert not topics - anchors(site[TROUBLESHOOT])


def doctor_topics() -> set[str]:
    """The topics of the findings that say what to do, as the code names them."""
    found = set()
    for path in ("engine/findings.py", "engine/doctor.py"):
        for function in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(function, ast.FunctionDef):
                found |= set(_called_with(function)) | set(_looped_over(function))
    return found


def _called_with(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = FINDERS.get(node.func.id)
            topic = None if place is None else node.args[place]
            if isinstance(topic, ast.Constant):
                yield str(topic.value)


def _looped_over(function: ast.FunctionDef) -> Iterator[str]:
    """Topics of a loop: `for granted, topic, what in ((..., "uploads-list", ...), ...)`."""
    tuples = [node.elts for node in ast.walk(function) if isinstance(node, ast.Tuple)]
    for names in tuples:
        called = [name.id if isinstance(name, ast.Name) else "" for name in names]
        if "topic" in called:
            place = called.index("topic")
            for row in tuples:
                topic = row[place] if len(row) == len(called) else None
                if isinstance(topic, ast.Constant):
                    yield str(topic.value)


def test_every_alert_has_a_section_in_the_runbook(site: dict[str, str]) -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    alerts = {
        rule["alert"].lower()
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert alerts
    assert not alerts - anchors(site["how-to/runbook.md"])


# -- the check of the built site -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ('<a href="b.html#there">b</a>', None),
        ('<a href="https://example.org/">elsewhere</a>', None),
        ('<a href="c.html">c</a>', "a.html: c.html leads nowhere"),
        ('<a href="b.html#gone">b</a>', "a.html: b.html#gone names an anchor that is not there"),
        (
            '<script src="https://cdn.example/x.js"></script>',
            "a.html: fetches https://cdn.example/x.js",
        ),
        ('<link rel="stylesheet" href="//x.example/y.css">', "a.html: fetches //x.example/y.css"),
    ],
)
def test_what_is_wrong_with_a_built_site_is_found(
    body: str, trouble: str | None, tmp_path: Path
) -> None:
    (tmp_path / "a.html").write_text(body)
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    assert list(troubles(tmp_path)) == ([trouble] if trouble else [])


def test_a_style_that_fetches_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://fonts.example/a.woff2') }")
    assert list(troubles(tmp_path)) == ["a.css: fetches https://fonts.example/a.woff2"]
