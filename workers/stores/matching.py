"""Whether a target honours If-Match when it writes and when it deletes: a part of the probe.

It counts only if the ETag of another object is refused and the right one is taken, for a PUT, for a
completed upload and for a DELETE; and if of two requests at once that name one ETag no more than
one succeeds. Of uploads that are completed at once, the race with If-None-Match tells.

Seen on 2026-11-28: Azurite 3.37 and SeaweedFS 4.48 honour it in all three, SeaweedFS not for two
uploads that are completed at once; moto 5.2 for a PUT and a DELETE, and passes over it when an
upload is completed; `rclone serve s3` passes over it everywhere.

It takes the four round trips that the rest of the probe takes as well, beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from noria.manifests.errors import TargetConflict
from noria.workers.stores.background import BackgroundCall, all_results
from noria.workers.stores.canaries import OTHER_BODY, Canaries
from noria.workers.stores.paced import PacedTarget
from noria.workers.stores.trials import Lap, answers, are_single_winners, lap, raises, works

LOOKS_ALONE: Final = "local"
"""The provider of a folder, which looks right before it writes: that may win any race by luck."""


class MatchingLook:
    """A look at what becomes of If-Match, under way from the moment that this is made."""

    def __init__(
        self,
        canaries: Canaries,
        target: PacedTarget,
        standing: BackgroundCall[str | None],
        races: int,
    ) -> None:
        """`standing` writes an object of other bytes than OTHER_BODY and returns its ETag.

        None: the target took no write, and nothing more is sent.
        """
        self._canaries = canaries
        self._target = target
        self._standing = standing
        known = target.capabilities
        self._matching = target.with_capabilities(
            replace(known, if_match=True, atomic_complete=True, if_match_delete=True)
        )
        """The same target, where If-Match is sent and nobody looks before."""
        self._writes: list[BackgroundCall[bool]] = []
        self._deletions: list[BackgroundCall[bool]] = []
        if target.provider == LOOKS_ALONE:
            return
        begin = canaries.call
        base = canaries.base
        self._writes = [
            begin(partial(self._tells_apart, base + "replaced", self._replace)),
            begin(partial(self._refuses_stale_upload, base + "upload-stale")),
            begin(partial(self._takes_upload, base + "upload-replaced")),
            *(
                begin(partial(self._has_one_winner, f"{base}match-put-{n}", self._replace))
                for n in range(races)
            ),
        ]
        self._deletions = [
            begin(partial(self._tells_apart, base + "deleted", self._delete)),
            *(
                begin(partial(self._has_one_winner, f"{base}match-delete-{n}", self._delete))
                for n in range(races)
            ),
        ]

    def holds_for_writes(self) -> bool:
        """Return True if a PUT or a completed upload replaces what it names, and nothing else."""
        return bool(self._writes) and all(all_results(self._writes))

    def holds_for_deletions(self) -> bool:
        """Return True if a DELETE takes what it names, and nothing else."""
        return bool(self._deletions) and all(all_results(self._deletions))

    def _stand(self, key: str) -> str | None:
        """Write what is to be replaced; return its ETag, None if the target refuses it.

        An ETag that other bytes have as well is none.
        """
        other = self._standing.result()
        if other is None:
            return None
        etag = next(iter(answers(lambda: self._canaries.put(self._target, key, OTHER_BODY))), None)
        return None if etag == other else etag

    def _replace(self, key: str, etag: str) -> None:
        self._canaries.put(self._matching, key, replaces=etag)

    def _delete(self, key: str, etag: str) -> None:
        self._canaries.delete(self._matching, key, etag)

    def _tells_apart(self, key: str, change: Callable[[str, str], None]) -> bool:
        etag, other = self._stand(key), self._standing.result()
        return (
            etag is not None
            and other is not None
            and raises(TargetConflict, partial(change, key, other))
            and works(partial(change, key, etag))
        )

    def _has_one_winner(self, key: str, change: Callable[[str, str], None]) -> bool:
        """Return True if of a change and a PUT at once, both of one ETag, one alone succeeds."""
        etag = self._stand(key)
        if etag is None:
            return False

        def race(change: Callable[[str, str], None]) -> Lap:
            return lap(partial(change, key, etag))

        racers = [self._canaries.call(partial(race, one)) for one in (change, self._replace)]
        return are_single_winners([all_results(racers)])

    def _refuses_stale_upload(self, key: str) -> bool:
        return raises(TargetConflict, partial(self._upload, key, is_stale=True))

    def _takes_upload(self, key: str) -> bool:
        return works(partial(self._upload, key, is_stale=False))

    def _upload(self, key: str, *, is_stale: bool) -> None:
        """Complete an upload over an object, which it names or not.

        The part is sent once the object stands: Azure's PUT drops the blocks before it.
        """
        canaries, target = self._canaries, self._matching
        upload_id = canaries.open_upload(target, key)
        other = self._standing.result()
        etag = canaries.put(self._target, key, OTHER_BODY)
        part = canaries.send_part(target, key, upload_id)
        canaries.complete(target, key, upload_id, part, replaces=other if is_stale else etag)
