"""What a pass has moved is signed when it ends, if its job names a key."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from noria.engine.config.jobfile import JobConfig
from noria.engine.job import RunReport
from noria.engine.planning import job_parts
from noria.manifests.errors import NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import migration_of

# What signs is loaded if something is to be signed: most jobs name no key.
if TYPE_CHECKING:
    from noria.engine.proof.signing import SigningWishes

log = logging.getLogger(__name__)


def end_signing(root: Path, config: JobConfig | None = None) -> SigningWishes | None:
    """What [proof] asks for; None: nothing. `config` None: as the job at root was planned.

    Raises ConfigurationError if the key cannot be used: before anything moves.
    """
    asked = (config or job_parts(JobDirectory.open(root))[0]).proof
    if asked.signing_key is None:
        return None
    from noria.engine.proof.signing import SigningWishes, check_wishes

    wishes = SigningWishes(
        key=Path(asked.signing_key), name=asked.name, timestamp_url=asked.timestamp_url
    )
    check_wishes(wishes)
    return wishes


def with_proof(ended: RunReport, place: Path, wishes: SigningWishes | None) -> RunReport:
    """The report of a run of the pass at `place`, signed if it ended well.

    What keeps it from being signed takes nothing from what was moved: it is in the report.
    """
    if wishes is None or not ended.complete or not ended.reconciled:
        return ended
    from noria.engine.proof.stamping import sign_and_stamp

    migration, _ = migration_of(place)
    try:
        return replace(ended, proof=sign_and_stamp(migration, wishes))
    except NoriaError as error:
        log.warning("not signed: %s", error.message)
        return replace(ended, proof={"error": error.message})
