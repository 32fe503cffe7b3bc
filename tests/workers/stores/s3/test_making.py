"""How a bucket is asked for: its region, and whose it is if there is one already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest
from botocore.credentials import Credentials

from noria.manifests.errors import AccessDenied, ConfigurationError
from noria.workers.stores.s3.store import S3Settings, S3Store
from tests.support.scripted import Caller, scripted

NAMED = b"<LocationConstraint>eu-west-3</LocationConstraint>"


@contextmanager
def asked(
    answers: Sequence[tuple[int, str]], *, provider: str = "s3", region: str = "eu-west-3"
) -> Iterator[tuple[S3Store, list[bytes]]]:
    """A bucket at a store that gives these answers in turn, and the bodies that it was sent."""
    bodies: list[bytes] = []

    def play(caller: Caller) -> None:
        for status, code in answers:
            head = caller.request().lower()
            assert head.startswith(b"put /bucket "), head
            assert b"x-amz-acl" not in head, "who else may read it is not for us to say"
            size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            bodies.append(caller.body(size))
            body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
            caller.say(f"HTTP/1.1 {status} Said", f"content-length: {len(body)}", body=body)

    with scripted(play) as host:
        settings = S3Settings(
            bucket="bucket", endpoint_url=host.url, region=region, provider=provider
        )
        store = S3Store(settings, Credentials("key", "secret"))
        with closing(store):
            yield store, bodies


def test_amazon_is_told_the_region() -> None:
    with asked([(200, "")], provider="aws") as (store, bodies):
        assert store.make_container()
    assert NAMED in bodies[0]


def test_the_first_region_is_not_named() -> None:
    with asked([(200, "")], provider="aws", region="us-east-1") as (store, bodies):
        assert store.make_container()
    assert bodies == [b""]


def test_another_store_is_told_the_region_if_it_asks() -> None:
    answers = [(400, "IllegalLocationConstraintException"), (200, "")]
    with asked(answers) as (store, bodies):
        assert store.make_container()
    assert bodies[0] == b""
    assert NAMED in bodies[1]


def test_a_region_that_is_wrong_twice_is_said() -> None:
    answers = [(400, "InvalidLocationConstraint")] * 2
    with asked(answers) as (store, _), pytest.raises(ConfigurationError, match="own region"):
        store.make_container()


@pytest.mark.parametrize("code", ["BucketAlreadyOwnedByYou", "BucketAlreadyExists"])
def test_one_that_is_there_is_not_made(code: str) -> None:
    with asked([(409, code)]) as (store, _):
        assert not store.make_container()


def test_the_right_may_be_missing() -> None:
    with asked([(403, "AccessDenied")]) as (store, _), pytest.raises(AccessDenied):
        store.make_container()
