"""The tags of source objects, read with no more requests than it takes to miss none.

A response may announce how many tags an object has. That it does not proves little: Amazon S3 and
Azure announce a count only if there are tags *and* the caller may read them, and some servers never
announce one. So an object without a count is asked for its tags, until it is known what the silence
of this source means. Objects that begin together do not all ask: one does, and the others wait for
what its answer says of silence, which takes them no longer than an answer of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from noria.manifests.errors import AccessDenied, SourceUnreadable
from noria.manifests.model import AttributeChange, Treatment
from noria.workers.runtime.greenlets import Waiter
from noria.workers.stores.paced import PacedStore
from noria.workers.stores.protocol import ObjectHead

ANNOUNCING = ("aws", "azure")
"""Providers that announce the tags that the caller may read: see Get Blob, GetObject."""


class SourceTags:
    """What is known of the tags of one source; shared by all transfers of a process."""

    def __init__(self) -> None:
        self._announces = False
        """A count was announced, so silence means none, if we may read tags."""
        self._may_read = False
        self._refuses = False
        self._lock = threading.Lock()
        self._waiting: list[Waiter] | None = None
        """Those that wait for the first answer. None: nobody has asked yet."""
        self._is_answered = False
        """The first has an answer, or an error: nobody waits any more."""

    def read(
        self,
        source: PacedStore,
        name: str,
        head: ObjectHead,
        treatment: Treatment,
        *,
        version_id: str | None,
    ) -> tuple[Mapping[str, str], AttributeChange | None]:
        """Return the object's tags, and TAGS_UNREADABLE if the source does not show them.

        Raises what PacedStore.read_tags raises. That the tags of an object are refused is raised
        only if the object is known to have some, and `treatment` is to refuse.
        """
        if head.tag_count == 0:
            return {}, None
        if head.tag_count is not None:
            self._announces = True
            return self._ask(source, name, head, treatment, version_id)
        is_first = self._is_silent_if_none(source, head) and self._is_first()
        try:
            if self._refuses:
                return {}, AttributeChange.TAGS_UNREADABLE
            if self._may_read and self._is_silent_if_none(source, head):
                return {}, None
            return self._ask(source, name, head, treatment, version_id)
        finally:
            if is_first:
                self._wake_others()

    def _is_first(self) -> bool:
        """Return True to the first caller, which calls _wake_others(); all others wait for that."""
        with self._lock:
            if self._waiting is None:
                self._waiting = []
                return True
            if self._may_read or self._refuses or self._is_answered:
                return False
            waiter = Waiter()
            self._waiting.append(waiter)
        waiter.wait()
        return False

    def _wake_others(self) -> None:
        with self._lock:
            self._is_answered = True
            waiting, self._waiting = self._waiting or [], []
        for waiter in waiting:
            waiter.wake()

    def _ask(
        self,
        source: PacedStore,
        name: str,
        head: ObjectHead,
        treatment: Treatment,
        version_id: str | None,
    ) -> tuple[Mapping[str, str], AttributeChange | None]:
        try:
            tags = source.read_tags(name, version_id=version_id)
        except (AccessDenied, SourceUnreadable) as error:
            if isinstance(error, AccessDenied):
                source.head(name)  # raises it again if it is not about tags alone
            if head.tag_count is not None and treatment is Treatment.REFUSE:
                raise
            self._refuses = True
            return {}, AttributeChange.TAGS_UNREADABLE
        self._may_read = True
        return tags, None

    def _is_silent_if_none(self, source: PacedStore, head: ObjectHead) -> bool:
        return self._announces or head.announces_tags or source.provider in ANNOUNCING
