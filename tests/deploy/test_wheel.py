"""The wheel: one name, what its commands need and no more; all of it imports and is declared."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from noria.benchmarks.servers import ROOT
from tests.support.installed import Installation, build, copy_tree, run

pytestmark = pytest.mark.slow
"""The wheel is built and installed first."""
NOT_IMPORTED = {
    "azure-storage-blob": "its users know it: tests check our own requests and signatures with it",
    "boto3": "its users know it: tests check our own requests and signatures with it",
}
"""Distributions that are declared although no module imports them, and why."""
EXTRA = {"matplotlib": "plots", "fontTools": "paper"}
"""Packages that are not there without an extra, and the name of the modules that need them."""
EXTRAS_OF_USERS = re.compile(r"""extra == ["'](bench|pdf)["']""")
MODULES = {"azure.core": "azure-core", "azure.identity": "azure-identity"}
"""Distributions of modules whose top-level name does not tell."""

IMPORT_EACH = """
import importlib, json, sys
failed = {}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = [type(error).__name__, getattr(error, "name", None), str(error)]
print(json.dumps(failed))
"""


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, bytes]:
    """Path -> bytes of all that is Noria's own in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if ".dist-info/" not in name and not name.endswith("/")
        }


@pytest.fixture(scope="module")
def metadata(installed: Installation) -> importlib.metadata.PathDistribution:
    (found,) = importlib.metadata.distributions(name="noria", path=[str(installed.site_packages)])
    assert isinstance(found, importlib.metadata.PathDistribution)
    return found


def modules(contents: dict[str, bytes]) -> list[str]:
    paths = [Path(name).with_suffix("") for name in contents if name.endswith(".py")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def test_its_one_name_is_noria(metadata: importlib.metadata.PathDistribution) -> None:
    assert metadata.read_text("top_level.txt") == "noria\n"
    assert {str(file).partition("/")[0] for file in metadata.files or []} == {
        "..",  # the command
        "noria",
        f"noria-{metadata.version}.dist-info",
    }


def test_it_holds_what_the_commands_need_and_no_more(contents: dict[str, bytes]) -> None:
    product = {
        str(Path("noria", file.relative_to(ROOT)))
        for folder in ("engine", "workers", "manifests")
        for file in (ROOT / folder).rglob("*.py")
    }
    benchmarks = {name for name in contents if name.startswith("noria/benchmarks/")}
    assert contents.keys() - benchmarks == product | {
        "noria/__init__.py",
        "noria/__main__.py",
        "noria/engine/estimate/prices.toml",
        "noria/engine/watch/page.html",
        "noria/py.typed",
        "noria/version.py",
    }
    parts = {name.split("/")[2] for name in benchmarks}
    assert parts == {"__init__.py", "commands.py", "measure", "simulate", "sweep"}


def test_every_module_imports_where_only_its_dependencies_are(
    installed: Installation, contents: dict[str, bytes], tmp_path: Path
) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps(modules(contents)))
    program = f"import sys; sys.stdin = open({str(names)!r}){IMPORT_EACH}"
    failed = json.loads(run([str(installed.python), "-I", "-c", program], tmp_path))
    without_extra = {
        name: missing
        for name, (kind, missing, _) in failed.items()
        if kind == "ModuleNotFoundError" and name.endswith(f".{EXTRA.get(missing)}")
    }
    assert failed.keys() == without_extra.keys(), failed
    assert set(without_extra.values()) == EXTRA.keys(), "what needs no extra is no longer one"


def test_what_it_imports_is_declared_and_what_it_declares_is_imported(
    contents: dict[str, bytes], metadata: importlib.metadata.PathDistribution
) -> None:
    requirements = [Requirement(line) for line in metadata.requires or []]
    declared = {
        requirement.name
        for requirement in requirements
        if requirement.marker is None or EXTRAS_OF_USERS.search(str(requirement.marker))
    }
    owners = importlib.metadata.packages_distributions()
    third_party = {name for name in imports(contents) if is_third_party(name)}
    imported = {distribution_of(name, owners) for name in third_party}
    assert imported <= declared, "imported, not declared"
    assert declared - imported == NOT_IMPORTED.keys(), "declared, not imported"


def imports(contents: dict[str, bytes]) -> set[str]:
    """Full names of all modules that are imported, at the top of a module or deep inside."""
    found = set[str]()
    for path, code in contents.items():
        for node in ast.walk(ast.parse(code)) if path.endswith(".py") else ():
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} imports by a relative name"
                found.add(str(node.module))
    return found


def is_third_party(module: str) -> bool:
    return module.partition(".")[0] not in {*sys.stdlib_module_names, "noria"}


def distribution_of(module: str, owners: Mapping[str, list[str]]) -> str:
    """The distribution that a module comes from; `owners` has those of each top-level name."""
    for prefix, name in MODULES.items():
        if f"{module}.".startswith(f"{prefix}."):
            return name
    (name,) = {canonicalize_name(name) for name in owners[module.partition(".")[0]]}
    return name


def test_the_commands_work(installed: Installation, tmp_path: Path) -> None:
    noria = str(installed.command)
    assert run([noria, "--version"], tmp_path).startswith("noria ")
    assert "simulate" in run([noria, "--help"], tmp_path)
    report = run([noria, "simulate", "--bytes", "1GB", "--objects", "1000", "--json"], tmp_path)
    assert json.loads(report)
    for end in ("source", "target"):
        (tmp_path / end).mkdir()
    (tmp_path / "source" / "object").write_bytes(b"bytes")
    ends = [(tmp_path / name).as_uri() for name in ("source", "target")]
    assert json.loads(run([noria, "estimate", *ends, "--json"], tmp_path))["objects"] == 1
    run([noria, "copy", *ends, "--workers", "1", "--metrics-address", "off", "-q"], tmp_path)
    assert (tmp_path / "target" / "object").read_bytes() == b"bytes"


@pytest.mark.parametrize("flags", [[], ["-P"], ["-I"]], ids=["as it is", "-P", "-I"])
def test_python_m_noria_starts(installed: Installation, tmp_path: Path, flags: list[str]) -> None:
    version = [str(installed.python), *flags, "-m", "noria", "--version"]
    assert run(version, tmp_path).startswith("noria ")
    tmp_path.chmod(0o555)
    assert run(version, tmp_path).startswith("noria ")
    gone = tmp_path.with_name("gone")
    gone.mkdir()
    code = f"rmdir {gone}; exec {' '.join(version)}"
    assert run(["sh", "-c", code], gone).startswith("noria ")


def test_a_source_distribution_gives_the_same_wheel(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    archive = build(copy_tree(tmp_path / "tree"), "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as opened:
        assert not [member.name for member in opened if member.issym() or member.islnk()]
    (unpacked := tmp_path / "unpacked").mkdir()
    run(["tar", "-xzf", str(archive)], unpacked)
    (tree,) = unpacked.iterdir()
    with zipfile.ZipFile(build(tree, "wheel", tmp_path / "again")) as again:
        theirs = {name: again.read(name) for name in contents}
        assert theirs == contents
        own = [name for name in again.namelist() if name.startswith("noria/")]
        assert set(own) == contents.keys()


def test_a_checkout_without_links_says_so(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    (tree / "src" / "noria" / "engine").unlink()
    (tree / "src" / "noria" / "engine").write_text("../../engine")
    for name in ("Makefile", "requirements.lock"):
        shutil.copy2(ROOT / name, tree)
    said = run(["sh", "-c", "make --no-print-directory setup PYTHON=false 2>&1 || true"], tree)
    assert said.splitlines()[0] == (
        "src/noria/engine is not a link: git config core.symlinks true, then git checkout src"
    )
