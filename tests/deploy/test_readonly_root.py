"""Ray and a job as the head's pod runs them: not as root, on a root that is read-only.

The command, the environment and the arguments of `ray start` are those of the rendered manifest;
namespaces of this machine stand for the container. Its image and its tini are not here.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT
from tests.deploy.rendered import only, pods, render
from tests.support.nodes import without_ray_settings

NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
TOOLS = ("unshare", "setpriv", "mount", "ip")
PROGRAMS = Path(sys.executable).parent

JOB = """\
set -u
mkdir /srv/source
for name in a b c; do echo $name > /srv/source/$name; done
printf '[source]\\nurl = "/srv/source"\\n[target]\\nurl = "/srv/target"\\n' > /srv/move-1.toml
{ray} > /tmp/ray.txt 2>&1 &
until ray status > /dev/null 2>&1; do sleep 0.5; done
for place in /etc /usr /var /home "$HOME" {tree}; do
  touch $place/written 2> /dev/null && echo "$place can be written"
done
noria-job /srv/move-1.toml --address auto --metrics-address off --no-progress
code=$?
cat /srv/target/*
exit $code
"""


def why_not() -> str | None:
    """Why this machine cannot do that, or None."""
    if os.geteuid() != 0:
        return "only root can make namespaces"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)} (util-linux, iproute2)"
    places = [ROOT, PROGRAMS, *ROOT.parents, Path(sys.executable).resolve()]
    if closed := [place for place in places if not place.stat().st_mode & 0o001]:
        return f"other users may not enter {closed[0]}"
    tried = subprocess.run(
        [*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/srv"], capture_output=True, check=False
    )
    return f"no namespaces here: {tried.stderr.decode()}" if tried.returncode else None


REASON = why_not()


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
@pytest.mark.timeout(180)
def test_a_job_runs_on_a_read_only_root_without_rights() -> None:
    rayjob = only(render("cluster"), "RayJob")
    head = pods(rayjob)["head"]["containers"][0]
    command: list[str] = [*head["command"], *head["args"]]
    assert command[:2] == ["tini", "--"]
    parameters = dict(rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"])
    assert parameters.pop("num-cpus") == "0"
    options = " ".join(f"--{name}={value}" for name, value in parameters.items())
    environment = {
        **without_ray_settings(),
        **{each["name"]: each["value"] for each in head["env"]},
        "KUBERAY_GEN_RAY_START_CMD": f"ray start --head --num-cpus=1 --block {options}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{PROGRAMS}:{ROOT / 'deploy' / 'scripts'}:{os.environ['PATH']}",
        # As the Dockerfile sets them.
        "HOME": "/home/noria",
        "TMPDIR": "/tmp",
        "XDG_CACHE_HOME": "/tmp/cache",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    script = JOB.format(ray=shlex.join(command[2:]), tree=ROOT)
    ended = subprocess.run(
        [*NAMESPACES, "bash", ROOT / "tests/deploy/readonly_root.sh", ROOT, "bash", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    *_, last, a, b, c = ended.stdout.splitlines()
    assert last == "noria-job: exit code 0 of noria run"
    assert [a, b, c] == ["a", "b", "c"]
    assert "can be written" not in ended.stdout
    assert "nice" not in ended.stderr, "workers run as nice as the driver"
