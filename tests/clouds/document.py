"""The tables of CLOUDS.md, made from the profiles.

.venv/bin/python -m tests.clouds.document       writes them there
"""

from __future__ import annotations

from collections.abc import Iterator

from noria.benchmarks.servers import ROOT
from tests.clouds.profiles import PROFILES, CloudProfile

DOCUMENT = ROOT / "CLOUDS.md"
BEGIN = "<!-- from tests/clouds/profiles.py: write with python -m tests.clouds.document -->"
END = "<!-- end -->"


def tables() -> str:
    return "\n".join(line for profile in PROFILES for line in _section(profile))


def written(text: str) -> str:
    """The document with the tables as they are now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{rest.partition(END)[2]}"


def _section(profile: CloudProfile) -> Iterator[str]:
    yield f"### {profile.title}"
    yield ""
    yield "| difference | what Noria does | played |"
    yield "| --- | --- | --- |"
    for each in profile.differences:
        played = "no" if each.rule is None else "yes"
        yield f"| [{each.what}]({each.source}) | {each.noria} | {played} |"
    yield ""


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
