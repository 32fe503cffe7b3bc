"""Which cluster a job runs on: worker processes of this machine, or a Ray cluster."""

from __future__ import annotations

from noria.engine.cluster.local import LocalCluster
from noria.engine.cluster.protocol import Cluster
from noria.engine.cluster.ray import RayCluster
from noria.manifests.errors import ConfigurationError


def open_cluster(address: str | None, *, ray: bool = False) -> Cluster:
    """The cluster of a job; nothing is started yet.

    `address` names a running Ray cluster; `ray` asks for one on this machine for the time of the
    run; otherwise workers are processes of this machine. Raises ConfigurationError if both are
    asked for.
    """
    if address is not None and ray:
        raise ConfigurationError(
            "--ray starts a Ray on this machine, --address joins one: give one of the two"
        )
    if address is None and not ray:
        return LocalCluster()
    return RayCluster(address)
