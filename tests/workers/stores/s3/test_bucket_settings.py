"""What buckets answer when they are asked for locks and versions."""

from __future__ import annotations

import pytest

from noria.workers.http.response import Response
from noria.workers.stores.s3.xml import parse_lock, parse_versioning

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def answer(body: str, status: int = 200) -> Response:
    return Response(status=status, headers={}, body=body.encode())


def lock(rule: str) -> str:
    enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    return f"<ObjectLockConfiguration {NAMESPACE}>{enabled}{rule}</ObjectLockConfiguration>"


def retention(mode: str, length: str) -> str:
    default = f"<DefaultRetention><Mode>{mode}</Mode>{length}</DefaultRetention>"
    return lock(f"<Rule>{default}</Rule>")


@pytest.mark.parametrize(
    ("response", "found"),
    [
        (answer(retention("COMPLIANCE", "<Days>30</Days>")), (True, "COMPLIANCE, 30 days")),
        (answer(retention("GOVERNANCE", "<Years>1</Years>")), (True, "GOVERNANCE, 1 years")),
        (answer(retention("GOVERNANCE", "")), (True, "GOVERNANCE, some time")),
        (answer(lock("")), (True, None)),
        (
            answer("<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>", 404),
            (False, None),
        ),
        (answer("<ListBucketResult/>"), (False, None)),
        (answer("no document"), (False, None)),
        (answer("<Error><Code>NotImplemented</Code></Error>", 501), (False, None)),
        (answer("<Error><Code>AccessDenied</Code></Error>", 403), (None, None)),
        (answer("<Error><Code>SlowDown</Code></Error>", 503), (None, None)),
    ],
)
def test_locks(response: Response, found: tuple[bool | None, str | None]) -> None:
    assert parse_lock(response) == found


@pytest.mark.parametrize(
    ("status", "found"),
    [("<Status>Enabled</Status>", True), ("<Status>Suspended</Status>", True), ("", False)],
)
def test_versioning(status: str, found: bool) -> None:
    body = f"<VersioningConfiguration {NAMESPACE}>{status}</VersioningConfiguration>"
    assert parse_versioning(answer(body)) is found


@pytest.mark.parametrize("status", [200, 403, 404, 500])
def test_versioning_that_is_not_told(status: int) -> None:
    assert parse_versioning(answer("<Error/>", status)) is None
