"""The policies of RIGHTS.md, as they stand there, with the names of a test in them."""

from __future__ import annotations

import json
import re
from typing import Any

from noria.benchmarks.servers import ROOT


def block_of(heading: str) -> str:
    """The first code block below this heading of RIGHTS.md."""
    text = (ROOT / "RIGHTS.md").read_text()
    _, found, below = text.partition(f"\n### {heading}\n")
    assert found, f"RIGHTS.md has no heading {heading!r}"
    block = re.search(
        r"^```\w+\n(.*?)^```$", below.partition("\n### ")[0], re.DOTALL | re.MULTILINE
    )
    assert block is not None, heading
    return block[1]


def s3_policy(heading: str, bucket: str, prefix: str) -> str:
    """A policy as AWS's IAM takes it. Those of Scaleway are written for a principal."""
    text = block_of(heading).replace("BUCKET", bucket).replace("PREFIX", prefix)
    policy: dict[str, Any] = json.loads(text)
    if policy["Version"] != "2012-10-17":
        policy = {"Version": "2012-10-17", "Statement": policy["Statement"]}
        for statement in policy["Statement"]:
            del statement["Principal"]
            statement["Resource"] = [f"arn:aws:s3:::{name}" for name in statement["Resource"]]
    return json.dumps(policy)


def sas_permissions(heading: str) -> str:
    """The letters of the SAS that the command below this heading makes."""
    found = re.search(r"--permissions (\w+)", block_of(heading))
    assert found is not None, heading
    return found[1]
