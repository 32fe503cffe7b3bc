"""What is peeled off a page is what the parser reads there."""

from __future__ import annotations

import random

import pytest

from noria.workers.stores.azure import xml as azure_xml
from noria.workers.stores.peeling import SHAPES_MAX, peel
from noria.workers.stores.protocol import Page
from noria.workers.stores.s3 import xml as s3_xml

NAMES = ["a", "a b", "é語", "\U0001f600", "&amp;x&lt;&#65;&#x42;&apos;", "a\tb", "&quot;q&quot;"]


def azure_blob(chance: random.Random) -> str:
    name = chance.choice(NAMES)
    named = f"<Name>{name}</Name>"
    if chance.random() < 0.2:
        named = '<Name Encoded="true">a%EF%BF%BEb%2F</Name>'
    properties = [
        "<Last-Modified>Thu, 26 Nov 2026 10:00:00 GMT</Last-Modified>",
        chance.choice(["<Etag>0x8DC</Etag>", '<Etag>W/"1"</Etag>', ""]),
        f"<Content-Length>{chance.randint(0, 10**12)}</Content-Length>",
        chance.choice(["<Content-Type>text/plain</Content-Type>", "<Content-Type />"]),
        chance.choice(
            ["<Content-MD5>AAAAAAAAAAAAAAAAAAAAAA==</Content-MD5>", "<Content-MD5/>", ""]
        ),
        chance.choice(["<Content-CRC64>AQAAAAAAAAA=</Content-CRC64>", ""]),
        chance.choice(["<BlobType>BlockBlob</BlobType>", "<BlobType></BlobType>"]),
        chance.choice(["<ResourceType>directory</ResourceType>", ""]),
    ]
    metadata = chance.choice(
        [
            "",
            "<Metadata />",
            "<Metadata><a>1</a><B></B><c /></Metadata>",
            "<Metadata><Hdi_isfolder>true</Hdi_isfolder></Metadata>",
        ]
    )
    tag = "<Tag><Key>k{0}</Key><Value>{0}&amp;</Value></Tag>"
    tags = chance.choice(
        [
            "",
            "<Tags><TagSet /></Tags>",
            f"<Tags><TagSet>{tag.format(1)}{tag.format(2)}</TagSet></Tags>",
        ]
    )
    version = chance.choice(["", "<VersionId>2026</VersionId>"])
    whole = f"<Properties>{''.join(properties)}</Properties>"
    return f"<Blob>{named}{version}{whole}{metadata}{tags}</Blob>"


def azure_document(items: str) -> bytes:
    return (
        '\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="c">'
        f"<Blobs>{items}</Blobs><NextMarker>m</NextMarker></EnumerationResults>"
    ).encode()


def s3_item(chance: random.Random, *, url: bool) -> str:
    key = chance.choice(["a%2Bb+c", "plain", "%E8%AA%9E"] if url else [*NAMES, "100%", "a+b"])
    etag = chance.choice(["&quot;e1&quot;", '"e2"', 'W/"e3"', "e4-2", ""])
    more = [
        f"<LastModified>2026-11-26T10:00:0{chance.randint(0, 9)}.000Z</LastModified>",
        chance.choice([f"<ETag>{etag}</ETag>", "<ETag/>", ""]),
        f"<Size>{chance.randint(0, 10**12)}</Size>",
        chance.choice(["<StorageClass>STANDARD</StorageClass>", ""]),
        chance.choice(["<Owner><ID>1</ID><DisplayName>d</DisplayName></Owner>", ""]),
        "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>" * chance.randint(0, 2),
    ]
    return f"<Contents><Key>{key}</Key>{''.join(more)}</Contents>"


def s3_document(items: str, *, url: bool) -> bytes:
    encoding = "<EncodingType>url</EncodingType>" if url else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult '
        f'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{encoding}'
        f"<IsTruncated>false</IsTruncated>{items}"
        "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>"
    ).encode()


def azure_pages(body: bytes) -> tuple[Page, Page]:
    """As it is read, and as the parser alone reads it."""
    blobs, rest = peel(body, "Blob")
    return (
        azure_xml.parse_blobs(azure_xml.parse_root(rest), blobs),
        azure_xml.parse_blobs(azure_xml.parse_root(body)),
    )


def s3_pages(body: bytes) -> tuple[Page, Page]:
    keys, rest = peel(body, "Contents")
    return s3_xml.parse_keys(s3_xml.parse_root(rest), keys), s3_xml.parse_keys(
        s3_xml.parse_root(body)
    )


@pytest.mark.parametrize("seed", range(60))
def test_pages_of_many_shapes(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.choice([0, 1, 5, 200])
    items = "".join(azure_blob(chance) for _ in range(count))
    items += "<BlobPrefix><Name>p/</Name></BlobPrefix>"
    found, expected = azure_pages(azure_document(items))
    assert found == expected
    assert len(found.batch) == count
    for url in (True, False):
        items = "".join(s3_item(chance, url=url) for _ in range(count))
        found, expected = s3_pages(s3_document(items, url=url))
        assert found == expected
        assert len(found.batch) == count


def test_a_page_of_one_shape_leaves_no_item_to_the_parser() -> None:
    item = azure_blob(random.Random(3))
    blobs, rest = peel(azure_document(item * 1_000), "Blob")
    assert [len(each) for each in blobs] == [1_000]
    assert b"<Blob>" not in rest


@pytest.mark.parametrize(
    "odd",
    [
        "<Blob> <Name>a</Name></Blob>",
        "<Blob><Name>a</Name><!-- comment --></Blob>",
        "<Blob><Name>a<b/>c</Name></Blob>",
        "<Blob><Name>a</Nome></Blob>",
        "<Blob><Name>a</Blob></Name>",
        '<Blob><Name other="1">a</Name></Blob>',
        '<Blob><Name>a</Name><Properties><Etag Encoded="true">a</Etag></Properties></Blob>',
        '<Blob><Name>a</Name><Metadata><Name Encoded="true">a</Name></Metadata></Blob>',
        "<Blob><Name>a\x01</Name></Blob>",
        "<Blob><Name>a</Name>",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(odd: str) -> None:
    body = azure_document(odd)
    assert peel(body, "Blob") == ([], body)


def test_another_encoding_is_left_to_the_parser() -> None:
    body = azure_document("<Blob><Name>a</Name></Blob>").replace(b"utf-8", b"iso-8859-1")
    assert peel(body, "Blob") == ([], body)


@pytest.mark.parametrize("entity", ["&nbsp;", "&", "&#0;", "&#xD800;", "&#x110000;", "&amp"])
def test_what_is_no_entity_is_no_name(entity: str) -> None:
    ((items,), _) = peel(azure_document(f"<Blob><Name>{entity}</Name></Blob>"), "Blob")
    with pytest.raises(ValueError, match="entity"):
        items.columns()


def test_names_that_are_not_utf8_are_refused() -> None:
    ((items,), _) = peel(b"<a><Blob><Name>\xff</Name></Blob></a>", "Blob")
    with pytest.raises(ValueError, match="UTF8"):
        items.columns()


def test_shapes_have_a_bound() -> None:
    items = "".join(f"<Blob><n{number}>1</n{number}></Blob>" for number in range(SHAPES_MAX + 5))
    shapes, rest = peel(azure_document(items), "Blob")
    assert len(shapes) == SHAPES_MAX
    assert rest.count(b"<Blob>") == 5


def test_a_literal_carriage_return_is_kept() -> None:
    size = "<Properties><Content-Length>1</Content-Length></Properties>"
    item = f"<Blob><Name>a\rb\r\nc</Name>{size}</Blob>"
    found, expected = azure_pages(azure_document(item))
    assert found.batch["key"].to_pylist() == ["a\rb\r\nc"]
    assert found == expected
