from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.manifests.errors import TargetRefused
from noria.manifests.model import Attributes
from noria.workers.stores.metadata import (
    decode_words,
    encode_words,
    require_ascii,
    require_token,
    split_provenance,
    with_provenance,
)

CONTROLS = [chr(number) for number in (*range(32), 127)]
PRINTABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=CONTROLS))


@given(PRINTABLE)
def test_every_printable_value_comes_back(value: str) -> None:
    sent = encode_words(value, key="k")
    assert re.fullmatch(r"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?", sent)
    assert all(len(word) <= 75 for word in sent.split(" ") if word.startswith("=?"))
    assert decode_words(sent) == value


@pytest.mark.parametrize("value", ["plain", "two words", "x=?y", "=?x?=", "=?UTF-8?B?YQ==?="])
def test_values_that_look_encoded_come_back(value: str) -> None:
    assert decode_words(encode_words(value, key="k")) == value


@pytest.mark.parametrize("value", ["a  b", "a b", '{"a":  1}'])
def test_plain_values_are_sent_as_they_are(value: str) -> None:
    assert encode_words(value, key="k") == value


def test_words_of_other_writers_are_read() -> None:
    assert decode_words("=?UTF-8?Q?caf=C3=A9_noir?=") == "café noir"
    assert decode_words("=?no-such-charset?B?YQ==?=") == "=?no-such-charset?B?YQ==?="


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\x7f", "a\0"])
def test_control_characters_are_refused(value: str) -> None:
    with pytest.raises(TargetRefused):
        encode_words(value, key="k")
    with pytest.raises(TargetRefused):
        require_ascii("content-type", value, key="k")
    with pytest.raises(TargetRefused):
        require_token(value, key="k")


def test_marks_go_on_and_come_off() -> None:
    own = {"Study": "S-17"}
    written = with_provenance(Attributes(metadata=own, modified_seconds=1.5), "job.1", key="k")
    assert written == {"Study": "S-17", "noriatxid": "job.1", "mtime": "1.5"}
    assert split_provenance({name.upper(): value for name, value in written.items()}) == (
        {"STUDY": "S-17"},
        "job.1",
        1.5,
    )


def test_an_mtime_of_another_writer_stays() -> None:
    foreign = {"mtime": "1.5"}
    assert split_provenance(foreign) == (foreign, None, None)
    written = with_provenance(
        Attributes(metadata={"Mtime": "x"}, modified_seconds=2.0), "t", key="k"
    )
    assert written == {"Mtime": "x", "noriatxid": "t"}
    assert split_provenance(written) == ({"mtime": "x"}, "t", None)


def test_an_older_transfers_id_is_replaced() -> None:
    assert with_provenance(Attributes(metadata={"NoriaTxid": "old"}), "new", key="k") == {
        "noriatxid": "new"
    }


def test_names_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(TargetRefused):
        with_provenance(Attributes(metadata={"a": "1", "A": "2"}), "t", key="k")
