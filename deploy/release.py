"""Builds a release of the commit that is checked out; nothing is tagged, pushed or uploaded.

    make release

Refuses if the tree is not clean, if `make test` or `make test-long` has not passed for this very
commit, if CHANGELOG.md has no section of the version or still has entries under Unreleased, or if
what is installed is not what requirements.lock pins. Then dist/ holds, built from the commit alone:

    noria-VERSION-py3-none-any.whl   what `pip install` takes
    noria-VERSION.tar.gz             the source distribution
    noria-VERSION.cdx.json           what the wheel needs, as pinned: a CycloneDX SBOM
    SHA256SUMS                       checksums of the three

The version stands in src/noria/version.py alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final, Literal
from uuid import NAMESPACE_URL, uuid5

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TESTED: Final = {"make test": "build/tested", "make test-long": "build/tested-long"}
"""Where each of the two writes the commit for which all of its tests have passed."""
LOCK: Final = "requirements.lock"
LICENSE: Final = "Apache-2.0"


class NotReady(Exception):
    """There is no release yet. Says all that is missing, one reason a line."""


def release(root: Path) -> list[Path]:
    """Check the tree and build its release; returns the files. Raises NotReady."""
    reasons = list(missing(root))
    if reasons:
        raise NotReady("\n".join(reasons))
    dist = root / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        tree.mkdir()
        archive = subprocess.run(
            ["git", "archive", "HEAD"], cwd=root, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x"], cwd=tree, check=True, input=archive.stdout)
        wheel, source = (build(tree, kind, dist) for kind in ("wheel", "sdist"))
    made = datetime.fromtimestamp(int(git(root, "log", "-1", "--format=%ct")), UTC)
    bom, pins = sbom(wheel, root / LOCK, made), pinned(root / LOCK)
    for each in bom["components"]:
        if each["version"] not in pins.get(each["name"], []):
            raise NotReady(f"{each['purl']} is installed, which {LOCK} does not pin: make setup")
    listed = dist / f"noria-{version(root)}.cdx.json"
    listed.write_text(json.dumps(bom, indent=1) + "\n")
    files = [wheel, source, listed]
    sums = dist / "SHA256SUMS"
    sums.write_text("".join(f"{sha256(file)}  {file.name}\n" for file in files))
    return [*files, sums]


def missing(root: Path) -> Iterator[str]:
    """What stands in the way of a release, each with the next step."""
    number = version(root)
    if git(root, "status", "--porcelain"):
        yield "the tree is not clean: commit what is changed"
    for command, note in TESTED.items():
        tested = root / note
        if not tested.is_file() or tested.read_text().strip() != git(root, "rev-parse", "HEAD"):
            yield f"the tests have not passed for this commit: {command}"
    if git(root, "tag", "--list", f"v{number}"):
        yield f"v{number} is tagged already: raise VERSION in src/noria/version.py"
    sections = changes(root)
    if not sections.get(number):
        yield f'CHANGELOG.md has nothing under "## {number}"'
    if sections.get("Unreleased"):
        yield f'CHANGELOG.md has entries under "## Unreleased": put them under "## {number}"'


def version(root: Path) -> str:
    """The version of a tree, which stands in one place."""
    (found,) = re.findall(
        r'^VERSION = "(.+)"$', (root / "src/noria/version.py").read_text(), flags=re.MULTILINE
    )
    return str(found)


def changes(root: Path) -> dict[str, str]:
    """Section of the changelog -> its text without headings. The first word names a section."""
    _, *sections = re.split(r"^## ", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    found = {}
    for section in sections:
        title, _, text = section.partition("\n")
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        found[title.split()[0]] = "\n".join(lines).strip()
    return found


def build(tree: Path, kind: Literal["wheel", "sdist"], folder: Path) -> Path:
    """A distribution of a tree by the backend that pyproject.toml names, as it is installed."""
    program = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tree, check=True, capture_output=True, text=True
    )
    return folder / ended.stdout.splitlines()[-1]


def image_command(root: Path) -> str:
    """What builds the image of this commit and pushes it, with labels, an SBOM and provenance.

    It prints the digest that overlays of deploy/kuberay pin.
    """
    made = datetime.fromtimestamp(int(git(root, "log", "-1", "--format=%ct")), UTC)
    labels = {
        "VERSION": version(root),
        "REVISION": git(root, "rev-parse", "HEAD"),
        "CREATED": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    arguments = " ".join(f"--build-arg {name}={value}" for name, value in labels.items())
    return (
        f"git archive HEAD | docker buildx build --file deploy/Dockerfile {arguments} --sbom=true "
        f"--provenance=mode=max --tag $REGISTRY/noria:{version(root)} --push -"
    )


def git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# -- what is in it ---------------------------------------------------------------------------------


def sbom(wheel: Path, lock: Path, made: datetime) -> dict[str, Any]:
    """What a wheel needs on this machine and this Python, with the versions that are installed.

    As CycloneDX 1.6 has it. Licences are what the packages state; hashes are those of all the files
    that the lock takes, of which one is installed.
    """
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        about = HeaderParser().parsestr(archive.read(name).decode())
    hashes = hashes_of(lock)
    needs = {"noria": direct(about.get_all("Requires-Dist") or [])}
    waiting = sorted(needs["noria"])
    while waiting:
        package, extras = waiting.pop()
        if package not in needs:
            needs[package] = set()
        found = direct(distribution(package).requires or [], extras)
        waiting += sorted(found - needs[package])
        needs[package] |= found
    refs = {package: ref(package, installed_version(package)) for package in needs}
    refs["noria"] = ref("noria", str(about["Version"]))
    own = {
        "type": "application",
        "bom-ref": refs["noria"],
        "name": "noria",
        "version": str(about["Version"]),
        "purl": refs["noria"],
        "licenses": [{"license": {"id": LICENSE}}],
        "hashes": [{"alg": "SHA-256", "content": sha256(wheel)}],
    }
    platform = f"{sys.platform} {os.uname().machine}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, sha256(wheel))}",
        "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": own,
            "properties": [
                {"name": "noria:python", "value": ".".join(map(str, sys.version_info[:3]))},
                {"name": "noria:platform", "value": platform},
            ],
        },
        "components": [
            component(package, refs[package], hashes.get(package, []))
            for package in sorted(needs.keys() - {"noria"})
        ],
        "dependencies": [
            {
                "ref": refs[package],
                "dependsOn": sorted({refs[name] for name, _ in needs[package]} - {refs[package]}),
            }
            for package in sorted(needs)
        ],
    }


def direct(
    requirements: list[str], extras: frozenset[str] = frozenset()
) -> set[tuple[str, frozenset[str]]]:
    """Packages that these name for this machine, each with the extras that are asked for."""
    found = set()
    for line in requirements:
        need = Requirement(line)
        sets = [{"extra": extra} for extra in ("", *extras)]
        if need.marker is None or any(need.marker.evaluate(each) for each in sets):
            found.add((canonicalize_name(need.name), frozenset(need.extras)))
    return {(str(name), asked) for name, asked in found}


def component(package: str, reference: str, hashes: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": package,
        "version": installed_version(package),
        "purl": reference,
    }
    licenses = stated_license(distribution(package))
    if licenses:
        made["licenses"] = licenses
    if hashes:
        made["externalReferences"] = [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{package}/{made['version']}/",
                "hashes": [{"alg": "SHA-256", "content": each} for each in hashes],
            }
        ]
    return made


def stated_license(found: Distribution) -> list[dict[str, Any]]:
    """The licence of a package in its own words: an SPDX expression, classifiers, or a line."""
    expressions = found.metadata.get_all("License-Expression")
    if expressions:
        return [{"expression": expressions[0]}]
    classifiers = found.metadata.get_all("Classifier") or []
    names = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    if not names:
        lines = (found.metadata.get_all("License") or [""])[0].splitlines()
        names = lines if len(lines) == 1 else []  # some have the whole text there
    return [{"license": {"name": name}} for name in sorted(set(names))]


def ref(package: str, number: str) -> str:
    return f"pkg:pypi/{package}@{number}"


def installed_version(package: str) -> str:
    """Of a package here; empty if it is not installed."""
    try:
        return distribution(package).version
    except PackageNotFoundError:
        return ""


def pinned(lock: Path) -> dict[str, list[str]]:
    """Package -> versions that a lock pins: more than one if they go by the Python."""
    found: dict[str, list[str]] = {}
    for name, number in re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(number)
    return found


def hashes_of(lock: Path) -> dict[str, list[str]]:
    """Package -> SHA-256 of each file of the installed version that a lock takes."""
    found = {}
    for block in re.split(r"^(?=[a-z0-9.-]+==)", lock.read_text(), flags=re.MULTILINE)[1:]:
        name, _, rest = block.partition("==")
        if re.split(r"[\s;]", rest)[0] == installed_version(name):
            found[name] = re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
    return found


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    try:
        files = release(root)
    except NotReady as refusal:
        sys.exit("\n".join(f"no release: {line}" for line in str(refusal).splitlines()))
    number, commit = version(root), git(root, "rev-parse", "HEAD")
    for file in files:
        print(file.relative_to(root))
    print("Nothing is tagged or pushed yet. If all is well:")
    print(f"  {image_command(root)}")
    print(f"  git tag --annotate v{number} --message 'Noria {number}' {commit}")


if __name__ == "__main__":
    main()
