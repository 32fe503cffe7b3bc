"""Pod Security Standards, level restricted: what an API server would refuse of a pod.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SECCOMP = ("RuntimeDefault", "Localhost")
HOST = ("hostNetwork", "hostPID", "hostIPC")


def violations(pod: dict[str, Any]) -> list[str]:
    """What is not allowed in a pod's spec, each with its place; empty if all is."""
    found = [f"{name} is set" for name in HOST if pod.get(name)]
    shared = pod.get("securityContext", {})
    if shared.get("sysctls"):
        found.append("sysctls are set")
    for volume in pod.get("volumes", []):
        kinds = volume.keys() - {"name"}
        found += [f"volume {volume['name']}: {kind}" for kind in sorted(kinds - VOLUMES)]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        words = _of_container(container, shared)
        found += [f"{container['name']}: {word}" for word in words]
    return found


def _of_container(container: dict[str, Any], shared: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**shared, **own}
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if capabilities.get("drop") != ["ALL"]:
        yield "capabilities are not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if both.get("runAsUser") == 0:
        yield "runs as root"
    if both.get("seccompProfile", {}).get("type") not in SECCOMP:
        yield "no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount is set"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "a port of the host"
