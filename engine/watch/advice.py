"""What to do about a cause, in one sentence: what the live page shows beside each.

The whole story of each is in docs/pages/how-to/troubleshoot.md, under the same word.
"""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "Look at log/noria.log in the job directory."
"""About a cause of another version."""

ADVICE: Final = {
    # Requests that fail, and are tried again.
    "throttled": "Nothing fails: Noria slows down. If it lasts, run with fewer --transfers, or ask "
    "the provider for a higher limit.",
    "unavailable": "Tried again by itself. If it lasts: the store's status page, the network, name "
    "resolution, a certificate that has ended.",
    "short_body": "Tried again by itself. If it lasts, find the proxy or host that cuts bodies.",
    "digest_refused": "Read and sent again. If it lasts, find the host that damages bytes, and "
    "take it out.",
    "outcome_unknown": "Noria looks before it writes again. The network wants mending.",
    "upload_lost": "Begun again. Let lifecycle rules spare uploads as young as this job.",
    "abort_failed": "Run noria clean on the job directory; the right to abort may be missing.",
    # Objects that did not land.
    "source_changed": "It changed after it was listed: noria sync makes another pass.",
    "source_missing": "It is gone from the source: look who deletes there, if that is not right.",
    "source_unreadable": "Rehydrate it, or grant reading, then run again.",
    "target_conflict": "Something else is at the target: decide with [run] conflicts, then noria "
    "retry.",
    "target_kept": "What was there is kept, as asked for.",
    "target_refused": "The target cannot hold it: see noria failures, then noria retry.",
    "attributes_refused": "Say with [run] unfit_metadata and so on what to do, then noria retry.",
    "tags_refused": "The target has no tags: [run] unfit_tags leaves them, then noria retry.",
    "internal": "A defect of Noria: report it; the next run tries again.",
    "error": UNKNOWN,
    # What the plan left out.
    "archived": "Rehydrate it at the source, then plan again.",
    "customer_key": "It is encrypted with a key that Noria does not have.",
    "folder_stub": "No bytes to move: nothing is to be done.",
    "link": 'Links are not followed; [source] links = "follow" does.',
    "metadata_too_large": "More user metadata than the target takes.",
    "name_merged": '[plan] names = "escape" maps the name.',
    "name_not_utf8": "Rename the file, then plan again.",
    "name_refused": '[plan] names = "escape" maps the name.',
    "name_too_long": "The target takes no name as long: rename it, then plan again.",
    "not_current": "Only current versions move: nothing is to be done.",
    "special_file": "Sockets, pipes and devices: nothing is to be done.",
    "too_large": "Larger than the target can hold.",
    # What ends a run.
    "access_denied": "Renew the credentials, then run again; noria doctor says what is lacking.",
    "another_driver": "Another process runs this job.",
    "asked": "It was asked to stop: run it again to go on.",
    "clock_skewed": "Set the clock of the machine over the network (NTP), then run again.",
    "configuration": "Correct what the message names, then run again.",
    "inventory": "Take an inventory report that is complete.",
    "job_directory": "Make room if its disk is full; a damaged one is to be restored.",
    "store_silent": "Run again once the store answers.",
    "target_full": "Make room at the target, then run again.",
    # What a verification found.
    "damaged": "Its bytes are not those that were sent: noria retry sends it again.",
    "target_missing": "Deleted since: noria retry sends it again.",
    "target_changed": "Somebody else wrote there: find out who before it is sent again.",
    # What a reconcile found.
    "missing": "Landed, and not listed at the target: noria retry sends it again.",
    "differing": "Somebody wrote there: once it is gone, noria retry.",
    "merged": "Two entries under one name: report it, with the store's name.",
    "extra": "Not of this job: expected if others write there.",
    "unsettled": "The job has not ended: noria run.",
    "unplanned": "The job directory was changed by something else: do not trust it.",
}


def advice_on(cause: str) -> str:
    """One sentence. About a cause that this version does not know: where to look."""
    return ADVICE.get(cause, UNKNOWN)
