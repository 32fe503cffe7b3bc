"""Choose the strategy for a lease."""

from __future__ import annotations

from noria.manifests.model import Lease, LeaseKind
from noria.workers.lease.assemble import AssembleRun
from noria.workers.lease.lease import LeaseRun, WorkerResources
from noria.workers.lease.objects import ObjectsRun
from noria.workers.lease.parts import PartsRun

_STRATEGIES: dict[LeaseKind, type[LeaseRun]] = {
    LeaseKind.OBJECTS: ObjectsRun,
    LeaseKind.PARTS: PartsRun,
    LeaseKind.ASSEMBLE: AssembleRun,
}


def moving_run(resources: WorkerResources, lease: Lease) -> LeaseRun:
    """Return the work on a lease of a job; a lease of a verification takes reread.RereadRun."""
    return _STRATEGIES[lease.kind](resources, lease)
