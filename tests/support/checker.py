"""The checker of proofs, run as an auditor runs it, or in this process if it has to be quick."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from noria.benchmarks.servers import ROOT
from noria.manifests.proof import check

CHECKER = ROOT / "manifests/proof/check.py"
HOLDS, REFUSED, NOT_CHECKED = 0, 1, 3
"""Exit codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckerRun:
    """How the checker ended, and what it wrote."""

    code: int
    said: str


def checked(*arguments: str | Path) -> CheckerRun:
    """Run the checker in this process."""
    said = io.StringIO()
    words = ["check.py", *map(str, arguments)]
    with patch.object(sys, "argv", words), redirect_stdout(said):
        code = check.main()
    return CheckerRun(code=code, said=said.getvalue())


def checked_alone(folder: Path, python: Path, *arguments: str | Path) -> CheckerRun:
    """Run a copy of the checker in `folder`, with a Python that has its standard library alone."""
    copy = shutil.copy(CHECKER, folder / "check.py")
    ran = subprocess.run(
        [python, "-I", "-S", copy, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath},
        cwd=folder,
    )
    assert not ran.stderr
    return CheckerRun(code=ran.returncode, said=ran.stdout)
