"""What a fault proxy is told to do, as data: which requests, how often, and what happens to them.

    Fault(match=on(Operation.PART, part=2), action=refuse(503, "SlowDown"), skip=1, times=3)

reads: let the first upload of part 2 pass, answer the next three with 503, let all others pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from urllib.parse import parse_qsl, unquote

Edit = Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]
"""Makes another answer (status, headers by lower-case name, body) out of the upstream's."""


class Operation(StrEnum):
    """What a request asks for, in the words of neither S3 nor Azure."""

    READ = "read"
    HEAD = "head"
    TAGS = "tags"
    LIST = "list"
    LIST_PARTS = "list_parts"
    LIST_UPLOADS = "list_uploads"
    PUT = "put"
    CREATE = "create"
    PART = "part"
    COMPLETE = "complete"
    ABORT = "abort"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedRequest:
    """The head of one request."""

    method: str
    target: str
    """Path and query as they came."""
    headers: Mapping[str, str]
    """By lower-case name."""

    @property
    def path(self) -> str:
        """Decoded: container (and account) first, then the object's name."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def operation(self) -> Operation:
        query = self.query
        if self.method == "GET":
            return _get_operation(query)
        if self.method == "PUT":
            if "partNumber" in query or query.get("comp") == "block":
                return Operation.PART
            return Operation.COMPLETE if query.get("comp") == "blocklist" else Operation.PUT
        if self.method == "POST":
            return Operation.CREATE if "uploads" in query else Operation.COMPLETE
        if self.method == "DELETE":
            return Operation.ABORT if "uploadId" in query else Operation.DELETE
        return Operation.HEAD


def _get_operation(query: Mapping[str, str]) -> Operation:
    comp = query.get("comp")
    if "tagging" in query or comp == "tags":
        return Operation.TAGS
    if "uploads" in query or query.get("include") == "uncommittedblobs":
        return Operation.LIST_UPLOADS
    if "uploadId" in query or comp == "blocklist":
        return Operation.LIST_PARTS
    return Operation.LIST if "list-type" in query or comp == "list" else Operation.READ


@dataclass(frozen=True, slots=True, kw_only=True)
class CannedResponse:
    """An answer of the proxy's own. Content-Length is added."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What is done to one exchange.

    The fields apply in this order; the functions below make them.
    """

    name: str
    meanwhile: Callable[[], object] | None = None
    """Called before anything else, while the request waits."""
    stall_seconds: float = 0.0
    stall_at: Literal["request", "answer", "body"] = "request"
    """Before the request is forwarded, before its answer begins, or half-way through its body."""
    reset: bool = False
    response: CannedResponse | None = None
    drop_headers: tuple[str, ...] = ()
    """Of the request, by lower-case name: the upstream does not see them."""
    reset_after_bytes: int | None = None
    """Of the request's body."""
    flip_request: bool = False
    flip_answer: bool = False
    flip_offset: int | None = None
    """Which byte is damaged. None: drawn from the proxy's seed."""
    lose_answer: bool = False
    edit: Edit | None = None
    cut_fraction: float | None = None
    bytes_per_second: float | None = None
    """Of a body, in both directions. None: no limit."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """A rule: of the requests that match, `skip` pass, then `times` meet the action."""

    match: Callable[[ProxiedRequest], bool]
    action: Action
    skip: int = 0
    times: int | None = 1
    """None: all that follow."""
    hits: int = 0
    """How often the action was taken; counted by the proxy, under its lock."""

    def claims(self, request: ProxiedRequest) -> bool:
        """Whether this request meets the action; counts it."""
        if not self.match(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


def on(*operations: Operation, name: str = "", part: int | None = None) -> Callable[..., bool]:
    """Match requests for one of the operations, whose path ends in `name`, for one part.

    No operation means any.
    """

    def match(request: ProxiedRequest) -> bool:
        return (
            (not operations or request.operation in operations)
            and request.path.endswith(name)
            and (part is None or request.query.get("partNumber") == str(part))
        )

    return match


# -- answers without the upstream ------------------------------------------------------------------


def response(status: int, *, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Action:
    """This answer, and the request goes no further."""
    return Action(
        name=f"answer {status}",
        response=CannedResponse(status=status, headers=headers or {}, body=body),
    )


def refuse(status: int, code: str, *, retry_after_seconds: int | None = None) -> Action:
    """An error as S3 words it and as Azure does, at once."""
    headers = {"content-type": "application/xml", "x-ms-error-code": code}
    if retry_after_seconds is not None:
        headers["retry-after"] = str(retry_after_seconds)
    return response(status, headers=headers, body=error_document(code))


def error_document(code: str) -> bytes:
    said = f"<Error><Code>{code}</Code><Message>as the test asked</Message></Error>"
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + said.encode()


def redirect(url: str, *, status: int = 307) -> Action:
    return response(status, headers={"location": url})


# -- broken connections ----------------------------------------------------------------------------


def reset() -> Action:
    """The connection is reset once the request's head was read."""
    return Action(name="reset", reset=True)


def reset_in_body(after_bytes: int) -> Action:
    """Both connections are reset when that much of the request's body was forwarded."""
    return Action(name="reset in body", reset_after_bytes=after_bytes)


def lose_answer() -> Action:
    """The upstream does its work and answers; the client sees a reset."""
    return Action(name="lose answer", lose_answer=True)


def cut_answer(fraction: float) -> Action:
    """The announced body ends early: the connection is closed after that fraction of it."""
    return Action(name="cut answer", cut_fraction=fraction)


def stall(seconds: float, at: Literal["request", "answer", "body"] = "answer") -> Action:
    return Action(name=f"stall {at}", stall_seconds=seconds, stall_at=at)


def cap(bytes_per_second: float) -> Action:
    return Action(name="cap", bytes_per_second=bytes_per_second)


# -- damaged content -------------------------------------------------------------------------------


def flip_request(offset: int | None = None) -> Action:
    """One bit of the request's body is another one when it is forwarded."""
    return Action(name="flip request", flip_request=True, flip_offset=offset)


def flip_answer(offset: int | None = None) -> Action:
    """One bit of the answer's body is another one when it reaches the client."""
    return Action(name="flip answer", flip_answer=True, flip_offset=offset)


def replace_answer(
    *,
    status: int | None = None,
    headers: Mapping[str, str | None] | None = None,
    body: bytes | Callable[[bytes], bytes] | None = None,
) -> Action:
    """The upstream does its work; what is given here replaces that of its answer.

    A header that is None is dropped.
    """

    def edit(
        said: int, fields: dict[str, str], content: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if callable(body):
            content = body(content)
        elif body is not None:
            content = body
        changed = {**fields, **(headers or {})}
        kept = {name: value for name, value in changed.items() if value is not None}
        return status or said, kept, content

    return Action(name="replace answer", edit=edit)


def ignore_range() -> Action:
    """The Range of the request is dropped: the whole object comes, with 200."""
    return Action(name="ignore range", drop_headers=("range",))


def shift_range(by: int = 1) -> Action:
    """The answer's Content-Range is off by that many bytes, its body is not."""

    def edit(
        status: int, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if "content-range" not in headers:
            return status, headers, body
        unit, _, place = headers["content-range"].partition(" ")
        span, _, whole = place.partition("/")
        first, _, last = span.partition("-")
        shifted = f"{unit} {int(first) + by}-{int(last) + by}/{whole}"
        return status, {**headers, "content-range": shifted}, body

    return Action(name="shift range", edit=edit)


# -- the rest of the world -------------------------------------------------------------------------


def meanwhile(do: Callable[[], object]) -> Action:
    """Something else happens right before the request is forwarded."""
    return Action(name="meanwhile", meanwhile=do)
