"""An ETag counts as MD5 only of a source whose ETags have proved to be."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from noria.manifests.model import Attributes
from noria.workers.stated_md5 import KNOWN, TRIED, StatedMd5
from noria.workers.stores.protocol import ObjectHead

BODY, OTHER = memoryview(b"body"), memoryview(b"bodx")
MD5 = hashlib.md5(BODY)


def head(etag: str, *, encryption: str | None = None, md5: str | None = None) -> ObjectHead:
    return ObjectHead(
        size=4, etag=etag, attributes=Attributes(encryption=encryption, content_md5=md5)
    )


def test_a_content_md5_counts_at_once() -> None:
    stated = head("0x8D", md5=b64encode(MD5.digest()).decode())
    assert not StatedMd5().contradicts(stated, BODY)
    assert StatedMd5().contradicts(stated, OTHER)


def test_an_etag_counts_once_others_were_md5s() -> None:
    md5s = StatedMd5()
    assert not md5s.contradicts(head(MD5.hexdigest()), OTHER)
    for _ in range(KNOWN):
        assert not md5s.contradicts(head(MD5.hexdigest()), BODY)
    assert md5s.contradicts(head(MD5.hexdigest()), OTHER)


@pytest.mark.parametrize(
    "odd",
    [head("0" * 32, encryption="aws:kms"), head("0" * 32 + "-2"), head("0x8DD"), head("0" * 40)],
)
def test_what_is_no_md5_by_its_looks_contradicts_nothing(odd: ObjectHead) -> None:
    md5s = StatedMd5()
    for _ in range(KNOWN):
        md5s.contradicts(head(MD5.hexdigest()), BODY)
    assert not md5s.contradicts(odd, BODY)


def test_a_source_whose_etags_are_something_else_is_left_alone() -> None:
    md5s = StatedMd5()
    for _ in range(TRIED):
        assert not md5s.contradicts(head("0" * 32), BODY)
    assert not md5s.contradicts(head(MD5.hexdigest()), BODY), "not even looked at any more"
    assert not md5s.contradicts(head("0" * 32), BODY)
