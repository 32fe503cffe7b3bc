from __future__ import annotations

from pathlib import Path

import pytest

from noria.manifests.errors import AttributesRefused
from noria.manifests.model import AttributeChange, Attributes, Treatment
from noria.manifests.plan.attributes import ATTRIBUTES, attribute_lines
from noria.workers.carriage import AttributePolicy, encoded_file_name, fit_attributes

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "ATTRIBUTES.md"
LEAVE, MAP = (
    AttributePolicy(metadata=each, headers=each, tags=each, others=each)
    for each in (Treatment.LEAVE, Treatment.MAP)
)
REFUSE_ALL = AttributePolicy(others=Treatment.REFUSE)
EXAMPLES: dict[AttributeChange, tuple[Attributes, str, AttributePolicy]] = {
    AttributeChange.METADATA_LEFT: (Attributes(metadata={"a-b": "1"}), "azure", LEAVE),
    AttributeChange.METADATA_MAPPED: (Attributes(metadata={"a-b": "1"}), "azure", MAP),
    AttributeChange.METADATA_LOWERED: (Attributes(metadata={"searchTags": "1"}), "s3", LEAVE),
    AttributeChange.HEADER_LEFT: (Attributes(cache_control="é"), "azure", LEAVE),
    AttributeChange.HEADER_MAPPED: (
        Attributes(content_disposition='attachment; filename="é.txt"'),
        "azure",
        MAP,
    ),
    AttributeChange.TAGS_LEFT: (Attributes(tags={"é": "1"}), "azure", LEAVE),
    AttributeChange.EXPIRES_LEFT: (Attributes(expires="0"), "azure", LEAVE),
    AttributeChange.REDIRECT_LEFT: (Attributes(website_redirect="/x"), "azure", LEAVE),
    AttributeChange.CLASS_LEFT: (Attributes(storage_class="COLD"), "s3", LEAVE),
    AttributeChange.BLOB_TYPE_LEFT: (Attributes(blob_type="PageBlob"), "azure", LEAVE),
    AttributeChange.RETENTION_LEFT: (Attributes(legal_hold=True), "azure", LEAVE),
    AttributeChange.ENCRYPTION_LEFT: (Attributes(encryption="aws:kms"), "s3", LEAVE),
}
"""For each change that the target's nature makes: what undergoes it, where, under which policy."""


@pytest.mark.parametrize("change", EXAMPLES)
def test_what_a_target_cannot_hold_is_named(change: AttributeChange) -> None:
    attributes, provider, policy = EXAMPLES[change]
    assert fit_attributes(attributes, provider, policy, key="k").changes == {change}
    files = fit_attributes(attributes, "local", REFUSE_ALL, key="k")
    assert (files.attributes, files.changes) == (attributes, frozenset())
    if change is not AttributeChange.METADATA_LOWERED:
        with pytest.raises(AttributesRefused, match=r"run\.unfit_"):
            fit_attributes(attributes, provider, REFUSE_ALL, key="k")


def test_every_change_has_an_example_and_a_row_in_the_table() -> None:
    of_others = {AttributeChange.TAGS_REFUSED, AttributeChange.TAGS_UNREADABLE}
    assert set(EXAMPLES) | of_others == set(AttributeChange)
    told = {cause for fate in ATTRIBUTES for cause in fate.counted}
    assert set(AttributeChange) <= told


def test_the_document_shows_the_table() -> None:
    lines = DOCUMENT.read_text().splitlines()
    shown = [line for line in lines if line.startswith("|")]
    assert shown == list(attribute_lines()), "write attribute_lines() into ATTRIBUTES.md"


def test_what_an_s3_client_wrote_stays_as_it_is_on_s3() -> None:
    attributes = Attributes(
        content_disposition='attachment; filename="résumé 漢字.pdf"',
        metadata={"x-amz-meta-with-hyphens": "née"},
        tags={"a@b": "x/y = 1"},
        expires="Thu, 01 Jan 2032 00:00:00 GMT",
        website_redirect="/elsewhere",
    )
    carried = fit_attributes(attributes, "s3", REFUSE_ALL, key="k")
    assert (carried.attributes, carried.changes) == (attributes, frozenset())


def test_names_that_azure_does_not_take_are_renamed_as_azcopy_does() -> None:
    metadata = {"123-invalid": "content", "fine": "é", "Kept": "1"}
    carried = fit_attributes(Attributes(metadata=metadata), "azure", MAP, key="k")
    assert carried.attributes.metadata == {
        "rename_123_invalid": "content",
        "rename_key_123_invalid": "123-invalid",
        "fine": "=?UTF-8?B?w6k=?=",
        "Kept": "1",
    }


def test_names_that_would_be_one_are_told_apart_or_left() -> None:
    one = fit_attributes(Attributes(metadata={"a": "1", "A": "2"}), "s3", LEAVE, key="k")
    assert one.attributes.metadata == {"a": "1"}
    assert one.changes == {AttributeChange.METADATA_LEFT}
    taken = {"a-b": "ours", "rename_a_b": "theirs"}
    two = fit_attributes(Attributes(metadata=taken), "azure", MAP, key="k")
    assert two.attributes.metadata == {"rename_a_b": "theirs"}
    assert two.changes == {AttributeChange.METADATA_LEFT}


def test_a_class_and_a_key_that_the_job_chooses_are_not_missed() -> None:
    policy = AttributePolicy(class_is_chosen=True, encryption_is_chosen=True)
    attributes = Attributes(storage_class="STANDARD_IA", encryption="aws:kms")
    assert not fit_attributes(attributes, "s3", policy, key="k").changes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('attachment; filename="é.txt"', "attachment; filename*=UTF-8''%C3%A9.txt"),
        ("inline; filename=é.txt; x=1", "inline; filename*=UTF-8''%C3%A9.txt; x=1"),
        (r'attachment; filename="a\"é"', "attachment; filename*=UTF-8''a%22%C3%A9"),
        ("é", None),
    ],
)
def test_a_file_name_beyond_ascii_has_a_form_in_ascii(given: str, expected: str | None) -> None:
    assert encoded_file_name(given) == expected
