"""Overlays of deploy/kuberay as `kubectl kustomize` renders them, and the pods they lead to."""

from __future__ import annotations

import copy
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from noria.benchmarks.servers import ROOT
from noria.benchmarks.servers.process import find_tool

KUBERAY = ROOT / "deploy" / "kuberay"
OVERLAYS = ("kind", "cluster", "kapsule")
COMPONENTS = ("spot", "prometheus", "azure-workload-identity")
Manifest = dict[str, Any]


def render(overlay: str) -> list[Manifest]:
    """Every manifest of an overlay: a copy, which a test may change."""
    return copy.deepcopy(_render(overlay))


@cache
def _render(overlay: str) -> list[Manifest]:
    return kustomize(KUBERAY / "overlays" / overlay)


def kustomize(folder: Path) -> list[Manifest]:
    """What a kustomization gives. Raises CalledProcessError, with what kubectl says."""
    rendered = subprocess.run(
        [find_tool("kubectl"), "kustomize", folder],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return list(yaml.safe_load_all(rendered.stdout))


def only(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one manifest of a kind, or of a kind and a name."""
    (found,) = (
        each
        for each in manifests
        if each["kind"] == kind and name in (None, each["metadata"]["name"])
    )
    return found


def templates(rayjob: Manifest) -> dict[str, Manifest]:
    """Pod templates as they are written: submitter, head, workers."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    return {
        "submitter": rayjob["spec"]["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        "workers": workers["template"],
    }


def pods(rayjob: Manifest) -> dict[str, Manifest]:
    """Pod specs as KubeRay makes them, with the containers that it adds.

    The head gets the autoscaler, with the image of Ray's container and what autoscalerOptions say;
    workers get an init container, with the image, the mounts and the security context of Ray's.
    """
    made = {name: copy.deepcopy(each["spec"]) for name, each in templates(rayjob).items()}
    options = rayjob["spec"]["rayClusterSpec"]["autoscalerOptions"]
    ray = made["head"]["containers"][0]
    made["head"]["containers"].append(
        {
            "name": "autoscaler",
            "image": ray["image"],
            "securityContext": options["securityContext"],
            "volumeMounts": options["volumeMounts"],
            "resources": options["resources"],
        }
    )
    ray = made["workers"]["containers"][0]
    copied = ("image", "securityContext", "volumeMounts")
    waiting = {"name": "wait-gcs-ready", **{name: ray[name] for name in copied}}
    made["workers"]["initContainers"] = [waiting]
    return made
