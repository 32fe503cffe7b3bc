"""How a real cloud differs from the server that stands in for it, as data: one rule a difference.

    Refuses(operations=WRITES, status=501, code="NotImplemented", header="x-amz-tagging")

A rule is asked for each request what the cloud does differently: it returns an Action of the fault
proxy, or None. What a cloud remembers between requests is in History, of which each proxy has one.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tests.support.fault_proxy.azure_message_shim import as_message, asking
from tests.support.fault_proxy.rules import Action, CannedResponse, Edit, Operation, ProxiedRequest

WRITES = (Operation.PUT, Operation.CREATE)
"""What carries the attributes of an object on S3."""
ATTRIBUTED = (*WRITES, Operation.COMPLETE)
"""What carries them on S3 and in Azure, where they come with the list of blocks."""
READS = (Operation.READ, Operation.HEAD)


@dataclass(slots=True)
class History:
    """What one cloud has seen so far."""

    hits: Counter[tuple[object, str]] = field(default_factory=Counter)
    """By rule and name: how often the rule has applied."""
    uploads: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By name: the ids of its uploads, in order."""
    parts: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    """By upload id: the size of each part."""
    allowed: dict[object, tuple[float, float]] = field(default_factory=dict)
    """By rule: requests that it lets through at once, and when that was so."""

    def note(self, request: ProxiedRequest) -> None:
        """Remember an upload and its part, if the request is about one."""
        upload_id = request.query.get("uploadId")
        if upload_id is None:
            return
        if upload_id not in self.uploads[request.path]:
            self.uploads[request.path].append(upload_id)
        if request.operation is Operation.PART:
            headers = request.headers
            size = headers.get("x-amz-decoded-content-length") or headers["content-length"]
            self.parts[upload_id][int(request.query["partNumber"])] = int(size)


class Rule(Protocol):
    """One difference."""

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        """What the cloud does instead of what the stand-in would do; None: the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuses:
    """AnswersWith an error to requests of these operations, without looking at what they carry."""

    operations: tuple[Operation, ...]
    status: int
    code: str
    message: str = "as documented"
    header: str | None = None
    """Only requests that carry it."""
    value: str | None = None
    """Only if the header has this value."""
    name: str = ""
    """Only for names that contain this text."""
    query: str = ""
    """Only if the query contains this text."""
    first: int | None = None
    """Of the requests about one name, only so many. None: all."""
    one_name_in: int = 1
    """Only about one of so many names, always the same ones."""
    retry_after_seconds: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Of the answer."""

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        if not self._concerns(request):
            return None
        if self.first is not None and history.hits[self, request.path] >= self.first:
            return None
        history.hits[self, request.path] += 1
        headers = dict(self.headers)
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(self.retry_after_seconds)
        return refused(self.status, self.code, self.message, headers)

    def _concerns(self, request: ProxiedRequest) -> bool:
        sent = None if self.header is None else request.headers.get(self.header)
        return (
            request.operation in self.operations
            and (self.header is None or sent is not None)
            and self.value in (None, sent)
            and self.name in request.path
            and self.query in request.target.partition("?")[2]
            and zlib.crc32(request.path.encode()) % self.one_name_in == 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttles:
    """Lets so many requests a second through, and refuses the rest."""

    operations: tuple[Operation, ...]
    per_second: float
    status: int
    code: str
    name: str = ""
    """Only for names that contain this text."""
    each_name: bool = False
    """So many for each name, rather than for all together."""

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        if request.operation not in self.operations or self.name not in request.path:
            return None
        now = time.monotonic()
        bucket = (self, request.path if self.each_name else "")
        left, since = history.allowed.get(bucket, (self.per_second, now))
        left = min(self.per_second, left + (now - since) * self.per_second)
        passes = left >= 1.0
        history.allowed[bucket] = (left - 1.0 if passes else left, now)
        return None if passes else refused(self.status, self.code, "Reduce your request rate.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldsParts:
    """Takes no part with a higher number."""

    parts: int

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        if int(request.query.get("partNumber", "1")) <= self.parts:
            return None
        said = f"Part number must be an integer between 1 and {self.parts}, inclusive"
        return refused(400, "InvalidArgument", said)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantsEqualParts:
    """Completes no upload whose parts but the last differ in size."""

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        if request.operation is not Operation.COMPLETE:
            return None
        parts = history.parts[request.query.get("uploadId", "")]
        if len({parts[number] for number in sorted(parts)[:-1]}) <= 1:
            return None
        return refused(400, "InvalidPart", "All non-trailing parts must have the same length.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetsUploads:
    """The first upload of each name is gone before it can be completed."""

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        if request.operation not in (Operation.COMPLETE, Operation.LIST_PARTS):
            return None
        if history.uploads[request.path][:1] != [request.query.get("uploadId")]:
            return None
        return refused(404, "NoSuchUpload", "The specified multipart upload does not exist.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassesOver:
    """Takes no notice of these headers of a request."""

    operations: tuple[Operation, ...]
    headers: tuple[str, ...]

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        if request.operation not in self.operations:
            return None
        return Action(name="passes over headers", drop_headers=self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersWith:
    """AnswersWith with these headers, or without them (None), and with this before the XML."""

    headers: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    before_xml: bytes = b""
    within_xml: bytes = b""
    """Between the declaration and the root."""
    status: tuple[int, int] = (0, 0)
    """This status becomes that one."""
    code: str = ""
    """The code of a refusal whose status becomes another one."""
    operations: tuple[Operation, ...] = tuple(Operation)

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        if request.operation not in self.operations:
            return None
        return Action(name="answers", edit=self._edit)

    def _edit(
        self, status: int, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        changed = {**headers, **self.headers}
        if self.status[0] == status:
            status = self.status[1]
            changed["x-ms-error-code"] = self.code
        if body.startswith(b"<?xml"):
            end = body.index(b"?>") + 2
            body = self.before_xml + body[:end] + self.within_xml + body[end:]
        kept = {name: value for name, value in changed.items() if value is not None}
        return status, kept, body


@dataclass(frozen=True, slots=True, kw_only=True)
class StatesChecksums:
    """Sends structured messages, with a CRC64 of all that is read, to who asks for them."""

    def action(self, request: ProxiedRequest, history: History) -> Action | None:
        return as_message() if asking()(request) else None


def refused(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Action:
    """An error as S3 words it and as Azure does."""
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()
    fields = {"content-type": "application/xml", "x-ms-error-code": code, **(headers or {})}
    answer = CannedResponse(status=status, headers=fields, body=body)
    return Action(name=f"{status} {code}", response=answer)


def combined(actions: list[Action]) -> Action | None:
    """All that a cloud does differently with one request: a refusal alone, else every change."""
    for action in actions:
        if action.response is not None:
            return action
    if not actions:
        return None
    edits = [action.edit for action in actions if action.edit is not None]
    dropped = tuple(name for action in actions for name in action.drop_headers)
    edit = _one_after_the_other(edits) if edits else None
    return replace(actions[0], edit=edit, drop_headers=dropped)


def _one_after_the_other(edits: list[Edit]) -> Edit:
    def edit(
        status: int, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        for each in edits:
            status, headers, body = each(status, headers, body)
        return status, headers, body

    return edit
