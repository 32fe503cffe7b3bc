"""deploy/kuberay as kubectl renders it: strict schemas, restricted pods, closed networks."""

from __future__ import annotations

import copy
import ipaddress
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import typer.main
import yaml

import noria
from noria.engine.cli import app
from noria.engine.config.jobfile import JobConfig
from noria.engine.config.reading import read_job_file
from tests.deploy import strict
from tests.deploy.pod_security import violations
from tests.deploy.rendered import (
    COMPONENTS,
    KUBERAY,
    OVERLAYS,
    Manifest,
    kustomize,
    only,
    pods,
    render,
    templates,
)
from tests.deploy.test_machines import firewall_ports

PUBLISHED = ("cluster", "kapsule")
"""Overlays whose image comes from a registry."""
DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
PLACEHOLDER = "@sha256:" + 64 * "0"
FOR_DOCUMENTS = [
    ipaddress.ip_network(each) for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
]
"""Networks that nobody has: RFC 5737."""
DRAIN = "noria-drain-node"

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def rayjob(overlay: str) -> Manifest:
    return only(render(overlay), "RayJob")


def policy(manifests: list[Manifest], name: str) -> Manifest:
    spec: Manifest = only(manifests, "NetworkPolicy", name)["spec"]
    return spec


def job_config(overlay: str, folder: Path) -> JobConfig:
    """The ConfigMap's job file, as Noria reads it."""
    (text,) = only(render(overlay), "ConfigMap")["data"].values()
    (folder / "job.toml").write_text(text)
    return read_job_file(folder / "job.toml")


# -- schemas ---------------------------------------------------------------------------------------


@every_overlay
def test_every_manifest_is_what_its_schema_says(overlay: str) -> None:
    manifests = render(overlay)
    kinds = {each["kind"] for each in manifests}
    assert kinds >= {"Namespace", "RayJob", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"}
    assert [error for each in manifests for error in strict.errors(each)] == []


def test_pods_are_what_kubernetes_takes() -> None:
    """The schema of a RayJob has a copy of that of pods, of the version KubeRay was built with."""
    for name, template in templates(rayjob("cluster")).items():
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {"name": name, **pod["metadata"]}
        assert strict.errors(pod) == []


@pytest.mark.parametrize(
    ("kind", "path", "old", "new"),
    [
        ("RayJob", "spec", "backoffLimit", "backOffLimit"),
        ("RayJob", "spec.rayClusterSpec.autoscalerOptions", "version", "versions"),
        (
            "RayJob",
            "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.securityContext",
            "readOnlyRootFilesystem",
            "readonlyRootFilesystem",
        ),
        ("RayJob", "metadata", "annotations", "annotation"),
        ("NetworkPolicy", "spec", "podSelector", "podSelectors"),
        ("PodDisruptionBudget", "spec", "minAvailable", "minimumAvailable"),
        ("PodMonitor", "spec.podMetricsEndpoints.0", "interval", "intervall"),
        ("ServiceAccount", "", "automountServiceAccountToken", "automountToken"),
    ],
)
def test_a_misspelt_field_is_found(kind: str, path: str, old: str, new: str) -> None:
    manifest = next(each for each in render("cluster") if each["kind"] == kind)
    assert strict.errors(manifest) == []
    place: Any = manifest
    for step in filter(None, path.split(".")):
        place = place[int(step) if step.isdecimal() else step]
    place[new] = place.pop(old)
    assert any(new in error for error in strict.errors(manifest))


def test_a_value_of_the_wrong_type_is_found() -> None:
    job = rayjob("cluster")
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert strict.errors(job) != []


@pytest.mark.parametrize("component", COMPONENTS)
def test_components_may_be_put_into_any_overlay(component: str, tmp_path: Path) -> None:
    copied = tmp_path / "kuberay"
    shutil.copytree(KUBERAY, copied)
    (copied / "try").mkdir()
    (copied / "try" / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["../base"], "components": [f"../components/{component}"]})
    )
    manifests = kustomize(copied / "try")
    assert [error for each in manifests for error in strict.errors(each)] == []
    assert manifests != kustomize(KUBERAY / "base")


# -- pods ------------------------------------------------------------------------------------------


@every_overlay
def test_pods_keep_to_the_restricted_standard_that_their_namespace_asks_for(overlay: str) -> None:
    labels = only(render(overlay), "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    made = pods(rayjob(overlay))
    assert made.keys() == {"submitter", "head", "workers"}
    assert {name: violations(pod) for name, pod in made.items()} == {name: [] for name in made}


def spoil(path: str, value: object) -> Callable[[Manifest], None]:
    def change(pod: Manifest) -> None:
        *steps, last = path.split(".")
        place: Any = pod
        for step in steps:
            place = place[int(step) if step.isdecimal() else step]
        place[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        spoil("hostNetwork", True),
        spoil("securityContext.runAsNonRoot", False),
        spoil("securityContext.runAsUser", 0),
        spoil("securityContext.seccompProfile", {"type": "Unconfined"}),
        spoil("securityContext.sysctls", [{"name": "net.core.somaxconn", "value": "1"}]),
        spoil("volumes", [{"name": "host", "hostPath": {"path": "/"}}]),
        spoil("containers.0.securityContext.allowPrivilegeEscalation", True),
        spoil("containers.0.securityContext.privileged", True),
        spoil("containers.0.securityContext.procMount", "Unmasked"),
        spoil("containers.0.securityContext.capabilities", {"drop": []}),
        spoil("containers.0.securityContext.capabilities.add", ["NET_ADMIN"]),
        spoil("containers.1.securityContext", {}),
        spoil("containers.0.ports", [{"containerPort": 1, "hostPort": 1}]),
    ],
)
def test_what_the_standard_refuses_is_found(change: Callable[[Manifest], None]) -> None:
    pod = pods(rayjob("cluster"))["head"]
    assert violations(pod) == []
    change(pod)
    assert violations(pod) != []


@every_overlay
def test_containers_write_to_volumes_alone_and_ray_to_memory_of_its_own(overlay: str) -> None:
    for pod in pods(rayjob(overlay)).values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert "emptyDir" in volumes[mounts["/tmp"]]
            if container["name"] in ("ray-head", "ray-worker"):
                memory = volumes[mounts["/dev/shm"]]["emptyDir"]
                assert memory == {"medium": "Memory", "sizeLimit": "256Mi"}
    cluster = rayjob(overlay)["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert int(group["rayStartParams"]["object-store-memory"]) < 256 * 1024 * 1024


@every_overlay
def test_images_are_pinned_by_a_digest_or_loaded(overlay: str) -> None:
    images = {
        container["image"]
        for pod in pods(rayjob(overlay)).values()
        for container in [*pod.get("initContainers", []), *pod["containers"]]
    }
    (image,) = images
    if overlay in PUBLISHED:
        assert DIGEST.fullmatch(image)
        assert image.endswith(PLACEHOLDER), "the digest is known when an image has been pushed"
    else:
        assert image == f"noria:{noria.__version__}"


@every_overlay
def test_who_needs_no_token_of_kubernetes_has_none(overlay: str) -> None:
    manifests = render(overlay)
    accounts = {
        each["metadata"]["name"]: each for each in manifests if each["kind"] == "ServiceAccount"
    }
    assert all(each["automountServiceAccountToken"] is False for each in accounts.values())
    made = pods(only(manifests, "RayJob"))
    assert {pod["serviceAccountName"] for pod in made.values()} == accounts.keys()
    mounted = {name for name, pod in made.items() if pod["automountServiceAccountToken"]}
    assert mounted == {"head"}, "Ray's autoscaler"
    assert "envFrom" not in made["submitter"]["containers"][0], "no credentials of stores"


@every_overlay
def test_the_job_file_is_one_that_noria_takes_and_asks_for_all_that_may_be_scaled_to(
    overlay: str, tmp_path: Path
) -> None:
    config = job_config(overlay, tmp_path)
    (group,) = rayjob(overlay)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert config.run.workers == group["maxReplicas"] * int(group["rayStartParams"]["num-cpus"])
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    _, job_file, *_ = shlex.split(rayjob(overlay)["spec"]["entrypoint"])
    (head, *_) = pods(rayjob(overlay))["head"]["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in head["volumeMounts"]}
    assert mounts[str(PurePosixPath(job_file).parent)] == "job-file"
    assert PurePosixPath(job_file).name in only(render(overlay), "ConfigMap")["data"]
    assert config.directory is not None
    assert PurePosixPath(config.directory).is_relative_to("/jobs"), "shared, and kept"


def test_the_entrypoint_is_one_plain_command_of_ours() -> None:
    """KubeRay puts it into a shell's line as it is: a `;` would end `ray job submit` there."""
    entrypoint = rayjob("cluster")["spec"]["entrypoint"]
    assert not re.search(r"[;&|<>$`\\\"'()]", entrypoint)
    program, _, *options = shlex.split(entrypoint)
    assert (KUBERAY.parent / "scripts" / program).is_file()
    run = typer.main.get_group(app).commands["run"]
    known = {name for each in run.params for name in [*each.opts, *each.secondary_opts]}
    assert {word for word in options if word.startswith("--")} <= known


@every_overlay
def test_workers_drain_before_they_end_and_the_head_is_not_evicted(overlay: str) -> None:
    made = pods(rayjob(overlay))
    (worker,) = made["workers"]["containers"]
    program, folder, seconds = worker["lifecycle"]["preStop"]["exec"]["command"]
    assert (program, folder) == (DRAIN, "/tmp/ray")
    assert int(seconds) < made["workers"]["terminationGracePeriodSeconds"]
    budget = only(render(overlay), "PodDisruptionBudget")["spec"]
    assert budget["minAvailable"] == 1
    head = templates(rayjob(overlay))["head"]["metadata"]["labels"]
    labels = {**head, "ray.io/node-type": "head"}
    assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_workers_alone_run_on_spot_machines() -> None:
    made = pods(rayjob("cluster"))
    assert "tolerations" not in made["head"]
    keys = {each["key"] for each in made["workers"]["tolerations"]}
    assert keys >= {"kubernetes.azure.com/scalesetpriority", "cloud.google.com/gke-spot"}


def test_kapsule_s_workers_have_a_pool_of_their_own() -> None:
    worker = pods(rayjob("kapsule"))["workers"]
    assert worker["nodeSelector"] == {"k8s.scaleway.com/pool-name": "movers"}
    assert [each["value"] for each in worker["tolerations"]] == ["movers"]


# -- networks --------------------------------------------------------------------------------------


def ports_of(rules: list[Manifest]) -> set[int]:
    found: set[int] = set()
    for rule in rules:
        for each in rule["ports"]:
            found.update(range(each["port"], each.get("endPort", each["port"]) + 1))
    return found


@every_overlay
def test_all_pods_are_closed_but_for_what_a_policy_opens(overlay: str) -> None:
    manifests = render(overlay)
    closed = policy(manifests, "noria-closed")
    assert closed.keys() == {"podSelector", "policyTypes"}
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    selected = closed["podSelector"]["matchLabels"]
    for template in templates(only(manifests, "RayJob")).values():
        assert selected.items() <= template["metadata"]["labels"].items()
    for each in manifests:
        if each["kind"] == "NetworkPolicy":
            spec = each["spec"]
            rules = [*spec.get("ingress", []), *spec.get("egress", [])]
            assert all(rule["ports"] for rule in rules)
            assert all(rule.get("from") or rule.get("to") for rule in rules)


@every_overlay
def test_ray_s_ports_are_fixed_and_open_between_its_pods_alone(overlay: str) -> None:
    spec = policy(render(overlay), "noria-ray")
    (inward,), (outward,) = spec["ingress"], spec["egress"]
    assert inward["from"] == outward["to"] == [{"podSelector": spec["podSelector"]}]
    assert ports_of([inward]) == ports_of([outward]) == firewall_ports("machines")
    cluster = rayjob(overlay)["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        ports = {
            name: int(value) for name, value in group["rayStartParams"].items() if "port" in name
        }
        assert len(ports) == 8
        assert ports.pop("metrics-export-port") == 8080
        assert set(ports.values()) <= ports_of([inward])
    submitter = templates(rayjob(overlay))["submitter"]["metadata"]["labels"]
    assert not spec["podSelector"]["matchLabels"].items() <= submitter.items()


@every_overlay
def test_the_submitter_reaches_the_dashboard_and_no_store(overlay: str) -> None:
    manifests = render(overlay)
    labels = templates(only(manifests, "RayJob"))["submitter"]["metadata"]["labels"]
    opened = {
        each["metadata"]["name"]: ports_of(each["spec"].get("egress", []))
        for each in manifests
        if each["kind"] == "NetworkPolicy"
        and each["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    }
    assert opened == {"noria-closed": set(), "noria-dns": {53}, "noria-submitter": {8265}}


@pytest.mark.parametrize("overlay", PUBLISHED)
def test_the_ends_are_reached_by_https_at_addresses_that_somebody_puts_in(overlay: str) -> None:
    (rule,) = policy(render(overlay), "noria-ends")["egress"]
    assert ports_of([rule]) == {443}
    blocks = [ipaddress.ip_network(each["ipBlock"]["cidr"]) for each in rule["to"]]
    assert len(blocks) == 2, "source and target"
    assert all(each in FOR_DOCUMENTS for each in blocks), "nothing is open by default"


@pytest.mark.parametrize("overlay", PUBLISHED)
def test_what_is_to_be_put_in_is_said(overlay: str) -> None:
    text = (KUBERAY / "overlays" / overlay / "kustomization.yaml").read_text()
    assert text.count("# PUT IN: ") == 5


def test_kind_reaches_no_store() -> None:
    names = {each["metadata"]["name"] for each in render("kind") if each["kind"] == "NetworkPolicy"}
    assert "noria-ends" not in names
    assert "noria-ray" in names


def test_identities_of_azure_need_no_keys() -> None:
    made = copy.deepcopy(render("cluster"))
    assert not any(
        "azure.workload.identity/client-id" in each["metadata"].get("annotations", {})
        for each in made
    ), "left out unless it is asked for"
    text = (KUBERAY / "components/azure-workload-identity/kustomization.yaml").read_text()
    (accounts, *_) = yaml.safe_load(text)["patches"]
    names = {each["metadata"]["name"] for each in made if each["kind"] == "ServiceAccount"}
    matched = {name for name in names if re.fullmatch(accounts["target"]["name"], name)}
    assert matched == {"noria-head", "noria-worker"}
