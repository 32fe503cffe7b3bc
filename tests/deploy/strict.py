"""Manifests against schemas, in which a field that is not known is an error.

Kubernetes' own schemas come with kubernetes-validate; those of custom resources are in schemas/.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

SCHEMAS = Path(__file__).with_name("schemas")
CUSTOM = {
    ("ray.io/v1", "RayJob"): "ray.io_rayjobs.yaml.gz",
    ("monitoring.coreos.com/v1", "PodMonitor"): "monitoring.coreos.com_podmonitors.yaml.gz",
}
VERSIONS = ("1.30", "1.37")
"""Of Kubernetes: the oldest and the newest that manifests are held to."""
METADATA = {"name", "namespace", "labels", "annotations"}
"""What our manifests may state there. Schemas of custom resources leave it open."""


def errors(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest, each with its place; empty if nothing is."""
    if (manifest["apiVersion"], manifest["kind"]) in CUSTOM:
        unknown = sorted(manifest["metadata"].keys() - METADATA)
        found = [f"metadata: {name} is not known" for name in unknown]
        validator = jsonschema.Draft202012Validator(custom_schema(manifest))
        return [*found, *(line(error) for error in validator.iter_errors(manifest))]
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"Kubernetes {version}: {line(error)}")
    return found


def line(error: jsonschema.ValidationError) -> str:
    return f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


def custom_schema(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return _custom_schema(manifest["apiVersion"], manifest["kind"])


@cache
def _custom_schema(api_version: str, kind: str) -> dict[str, Any]:
    text = gzip.decompress((SCHEMAS / CUSTOM[api_version, kind]).read_bytes())
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of a megabyte
    definition = yaml.load(text, Loader=loader)
    wanted = api_version.rpartition("/")[2]
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == wanted)
    return closed(version["schema"]["openAPIV3Schema"])


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema, in which objects have no fields but those that are listed."""
    made = dict(schema)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            made[name] = closed(schema[name])
    if "properties" in schema:
        made["properties"] = {name: closed(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made
