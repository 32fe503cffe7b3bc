"""A job of several passes, from Python: what is asked of it is asked of the latest pass."""

from __future__ import annotations

import subprocess
from pathlib import Path

import noria
from tests.support.finished_jobs import finish_job
from tests.support.moves import NORIA
from tests.support.scripted_cluster import ScriptedCluster


def test_a_job_of_several_passes_is_seen_as_it_stands(tmp_path: Path) -> None:
    root = finish_job(tmp_path).root
    noria.run(root, overrides={"workers": 1})
    (tmp_path / "source" / "new").write_bytes(b"new")
    ended = subprocess.run(
        [NORIA, "sync", root, "--workers", "1", "--metrics-address", "off"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    assert noria.status(root).objects_total == 1, "of the second pass"
    found = noria.reconcile(root)
    assert (found.reconciled, found.extra) == (True, 0)
    again = noria.run(root, overrides={"workers": 1})
    assert (again.exit_code, again.objects) == (0, 1)
    assert noria.verify(root, overrides={"workers": 1}).reread == 6
    assert list(noria.failures(root)) == []
    assert noria.clean(root).exit_code == 0
    cluster = ScriptedCluster()
    assert noria.verify(root, cluster=cluster).reread == 6
    assert (len(cluster.started), cluster.closed) == (1, 1)
