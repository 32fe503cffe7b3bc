"""Delete at the target what earlier passes wrote and the source no longer has, and nothing else.

The source is asked for the object right before: a list of what it holds may be old, or of a part of
it. Only the object with the ETag that was left at the target is deleted, or one that an earlier
pass wrote there without a receipt: the target compares it, or the store looks right before. One
that is gone already counts as deleted, whoever did it: an earlier attempt may have. Another object
under the name is a conflict, and stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from noria.manifests.errors import SourceChanged, TargetConflict
from noria.manifests.model import ConflictPolicy, Guard, ObjectEntry, Receipt
from noria.workers.context import Resends, TransferContext
from noria.workers.existing import conflict_of, refuse_or_keep
from noria.workers.stores.protocol import Deleted
from noria.workers.verification import deleted_receipt


@dataclass(frozen=True, slots=True)
class Deletion:
    """The deletion of one entry's object, in one attempt."""

    context: TransferContext
    entry: ObjectEntry
    attempt: int

    def receipt(self) -> Receipt:
        """Delete the object; return the receipt.

        May be repeated. Raises SourceChanged if the source has the object, TargetConflict or
        TargetKept if another object is at the target, Fatal, Stopped, or a Retryable whose budget
        is spent.
        """
        if self.context.source.head(self.context.source_name(self.entry)) is not None:
            raise SourceChanged(
                "the source has this object after all, so that it stays at the target: run another "
                "pass, by a newer list of the source",
                key=self.entry.key,
            )
        guard = Guard.IF_MATCH if self.context.target.capabilities.if_match_delete else Guard.LOOK
        return deleted_receipt(self.entry, self.attempt, self._delete(), guard)

    def _delete(self) -> Deleted | None:
        """Return None if the object was gone already."""
        context, entry = self.context, self.entry
        name, left = context.target_name(entry), entry.replaces
        resends = Resends(context)
        while True:
            try:
                if left is None:
                    raise conflict_of(entry)
                return context.target.delete_object(name, etag=left)
            except TargetConflict as error:
                existing = context.target.head(name)
                if existing is None:
                    return None
                if existing.etag != left and context.is_unreceipted(existing.txid, entry):
                    left = existing.etag
                    continue
                if existing.etag != left:
                    if context.options.conflicts is ConflictPolicy.KEEP:
                        refuse_or_keep(context, entry, existing)
                    raise conflict_of(entry) from error
                resends.again(error)
