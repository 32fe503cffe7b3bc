"""A whole probe of a target, for tests that want to know what the target does."""

from __future__ import annotations

import contextlib

from noria.manifests.errors import NoriaError
from noria.workers.stores.canaries import Canaries
from noria.workers.stores.probe import TargetFacts, find_target_facts
from noria.workers.stores.protocol import TargetStore


def probe_target(store: TargetStore, prefix: str, token: str) -> TargetFacts:
    """Probe the target with canaries below `prefix`.noria-probe-`token`/, and remove them.

    Raises what a plain PUT or a plain upload raises, because then nothing can be moved there. A
    repeat with the same token removes the canaries that a killed probe left.
    """
    canaries = Canaries(store, prefix, token)
    try:
        return find_target_facts(canaries)
    finally:
        with contextlib.suppress(NoriaError):
            canaries.remove()
