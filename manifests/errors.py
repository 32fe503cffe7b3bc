"""The one error tree. Each class says what to do: retry, skip or stop.

    NoriaError
    ├── Retryable            the same step may be tried again, within its budget
    │   ├── Throttled            429, 503 SlowDown, ServerBusy; may carry retry_after_seconds
    │   ├── StoreUnavailable     other 5xx, resets, timeouts before an answer
    │   ├── ShortBody            fewer or other bytes than asked for, Range ignored or shifted
    │   ├── DigestRefused        the target refused a checksum: read the source again, then send
    │   ├── OutcomeUnknown       a write may or may not have happened: look before anything else
    │   └── UploadLost           the multipart upload is gone: start another one
    ├── Skippable            this object is final without having been moved; the job continues
    │   ├── SourceChanged        the source object is not the one that was planned
    │   ├── SourceMissing        the source object is gone
    │   ├── SourceUnreadable     archived, customer-keyed, or refused for this object alone
    │   ├── TargetConflict       the target has another object of this name
    │   ├── TargetKept           the same, and the policy is to keep it: no failure
    │   ├── TargetRefused        the target cannot hold this object (name, size)
    │   │   ├── AttributesRefused    its metadata, headers or tags, and the policy is to refuse
    │   │   └── TagsRefused          the target has no tags
    │   └── EntryBroken          an unexpected error while this object was moved
    └── Fatal                the run stops; the job stays resumable
        ├── ConfigurationError   wrong usage or job file; exit code 2
        │   └── ContainerMissing     the bucket, container or folder of an end: it may be made
        ├── InventoryError       an inventory that cannot be trusted, with file and line; code 2
        ├── AccessDenied         credentials refused or expired; exit code 2 if nothing has begun
        │   └── TagsDenied           a write with tags was refused: the right to tags may be missing
        ├── ClockSkewed          the clock of this machine is too far from the store's
        ├── StoreSilent          a store has answered nobody for run.outage_seconds
        ├── TargetFull           no space is left at the target: every other object fails as well
        ├── JobDirectoryError    the job directory is damaged, full, or of another version
        ├── AnotherDriver        a second driver holds this job; exit code 2
        └── StopAsked            a person or a program asked for an end

`cause` is a short constant of the class, safe as a metric label and in a receipt. A message names
what happened and the next step; it may name an object only through `key`, which callers print or
hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class NoriaError(Exception):
    """Root of the tree.

    `key` is the object concerned, kept out of the message so that logs may hide it. The message is
    made one line of printable characters.
    """

    cause: ClassVar[str] = "error"
    may_pass: ClassVar[bool] = False
    """An object that failed for it may land if it is tried again: the next run does that."""
    may_be_of_host: ClassVar[bool] = False
    """It ends all work on a machine, and may be a trouble of that machine alone."""
    exit_code: ClassVar[int] = 3
    """Of a command that ends with it. 2: running the job again changes nothing until somebody
    corrects what is wrong."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        message = _one_line(message)
        super().__init__(message)
        self.message = message
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), dict(self.__dict__)))


def _one_line(message: str) -> str:
    if message.isprintable():
        return message
    shown = (sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in message)
    return "".join(shown)


def _rebuild(kind: type[NoriaError], state: dict[str, object]) -> NoriaError:
    error = kind.__new__(kind)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class Retryable(NoriaError):
    """The same step may be tried again."""

    may_pass = True


class Throttled(Retryable):
    cause = "throttled"

    def __init__(
        self, message: str, *, key: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, key=key)
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailable(Retryable):
    cause = "unavailable"


class ListingBroken(StoreUnavailable):
    """A listing goes in circles or contradicts itself: none goes on from what is known of it."""


class ShortBody(Retryable):
    cause = "short_body"


class DigestRefused(Retryable):
    cause = "digest_refused"


class OutcomeUnknown(Retryable):
    cause = "outcome_unknown"


class UploadLost(Retryable):
    cause = "upload_lost"


class Skippable(NoriaError):
    """This object is final without having been moved."""


class SourceChanged(Skippable):
    cause = "source_changed"


class SourceMissing(Skippable):
    cause = "source_missing"


class SourceUnreadable(Skippable):
    cause = "source_unreadable"
    may_pass = True


class TargetConflict(Skippable):
    cause = "target_conflict"


class TargetKept(Skippable):
    cause = "target_kept"


class TargetRefused(Skippable):
    cause = "target_refused"


class AttributesRefused(TargetRefused):
    cause = "attributes_refused"


class TagsRefused(TargetRefused):
    cause = "tags_refused"


class EntryBroken(Skippable):
    """An error that nobody expected, met while this object was moved or read back."""

    cause = "internal"
    may_pass = True


class Fatal(NoriaError):
    """The run stops here; what is sealed stays, and the job can be resumed."""


class ConfigurationError(Fatal):
    cause = "configuration"
    may_be_of_host = True
    exit_code = 2


class ContainerMissing(ConfigurationError):
    """There is no such bucket, container or folder."""


class InventoryError(Fatal):
    cause = "inventory"
    exit_code = 2


class AccessDenied(Fatal):
    cause = "access_denied"
    may_be_of_host = True
    exit_code = 2


class TagsDenied(AccessDenied):
    """The same request without tags may be allowed."""


class ClockSkewed(Fatal):
    cause = "clock_skewed"
    may_be_of_host = True


class StoreSilent(Fatal):
    cause = "store_silent"


class TargetFull(Fatal):
    cause = "target_full"


class JobDirectoryError(Fatal):
    cause = "job_directory"
    may_be_of_host = True


class AnotherDriver(Fatal):
    cause = "another_driver"
    exit_code = 2


class StopAsked(Fatal):
    """The end was asked for. Raised by a `show`, it has a run drain."""

    cause = "asked"

    def __init__(
        self, message: str = "stopped on request; run it again to resume", *, key: str | None = None
    ) -> None:
        super().__init__(message, key=key)


def unusable_path(error: OSError) -> ConfigurationError:
    """A path of this machine that cannot be used, in words that name it and the next step.

    As in a hardened container: no home, a root that is read-only, a user without a name.
    """
    return ConfigurationError(
        f"cannot use {error.filename}: {error.strerror}; make room or access, or name another"
    )


def all_causes() -> frozenset[str]:
    """The causes of all classes of the tree."""
    return frozenset(kind.cause for kind in _classes(NoriaError))


def passing_causes() -> frozenset[str]:
    """The causes of failures that another try may end."""
    return frozenset(kind.cause for kind in _classes(NoriaError) if kind.may_pass) - {
        NoriaError.cause
    }


def host_causes() -> frozenset[str]:
    """The causes that end all work on a machine, and may be the trouble of that one alone."""
    return frozenset(kind.cause for kind in _classes(NoriaError) if kind.may_be_of_host)


def _classes(*roots: type[NoriaError]) -> Iterator[type[NoriaError]]:
    for root in roots:
        yield root
        yield from _classes(*root.__subclasses__())
