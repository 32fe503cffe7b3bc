"""Signed notes: as others write them, and nothing else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from noria.manifests.proof.note import (
    Note,
    NoteKey,
    NoteSignature,
    SignatureType,
    check_name,
    read_key,
    read_note,
    signature_line,
    signed_bytes,
    taken_apart,
    with_signatures,
)

GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpR\
Zb6KE6RyyBwJnAM=
"""
"""The example of golang.org/x/mod/sumdb/note, which C2SP's format is that of."""
OPERATOR = NoteKey(name="a.example/b", type=SignatureType.OPERATOR, public=b"\1" * 32)
COSIGNER = NoteKey(name="a.example/b", type=SignatureType.COSIGNER, public=b"\1" * 32)


def test_a_note_of_gos_is_read_and_its_signature_is_right() -> None:
    note, key = read_note(GO_NOTE.encode()), read_key(GO_KEY)
    (line,) = note.of(key)
    signature, seconds = taken_apart(key, line)
    assert seconds is None
    signed = signed_bytes(key.type, note.text, 0)
    Ed25519PublicKey.from_public_bytes(key.public).verify(signature, signed)
    assert note.encode() == GO_NOTE.encode()
    assert key.line == GO_KEY


def test_a_key_has_another_id_for_another_type_or_name() -> None:
    other = NoteKey(name="c", type=SignatureType.OPERATOR, public=b"\1" * 32)
    assert len({OPERATOR.id, COSIGNER.id, other.id}) == 3
    assert [read_key(each.line) for each in (OPERATOR, COSIGNER)] == [OPERATOR, COSIGNER]


def test_a_cosigner_states_when() -> None:
    line = signature_line(COSIGNER, b"\2" * 64, 1_795_861_400)
    assert taken_apart(COSIGNER, line) == (b"\2" * 64, 1_795_861_400)
    assert signed_bytes(COSIGNER.type, b"a\n", 17) == b"cosignature/v1\ntime 17\na\n"
    with pytest.raises(ValueError, match="another length"):
        taken_apart(OPERATOR, line)


def test_signatures_are_added_once_and_in_order() -> None:
    first, second = (signature_line(OPERATOR, sign * 64, 0) for sign in (b"\1", b"\2"))
    note = with_signatures(Note(text=b"a\n"), [first])
    assert with_signatures(note, [first]) == note
    both = with_signatures(note, [second])
    assert both.signatures == (first, second)
    assert both.digest == note.digest
    assert read_note(both.encode()) == both


def test_a_note_may_wait_for_its_signatures() -> None:
    assert read_note(b"a\n\n") == Note(text=b"a\n")


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1))
def test_any_printable_text_comes_back(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    note = Note(text=text, signatures=(signature_line(OPERATOR, b"\3" * 64, 0),))
    assert read_note(note.encode()) == note


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a\n",
        b"\n\n",
        b"a\n\nno signature\n",
        "a\n\n— name AAAAAAAA".encode(),
        "a\n\n— name AAAAAA==\n".encode(),
        "a\n\n— na+me AAAAAAAAAAAA\n".encode(),
        "a\n\n—  AAAAAAAAAAAA\n".encode(),
        "a\n\n— name AAAA AAAA\n".encode(),
        "a\n\n— name !AAAAAAAAAAA\n".encode(),
        b"a\x00\n\n",
        b"a\r\n\n",
        b"\xff\n\n",
        b"a" * (1 << 20) + b"\n\n",
    ],
)
def test_what_is_no_note_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_note(data)


@pytest.mark.parametrize(
    "line",
    [
        "",
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("PeterNeumann", "Peter Neumann"),
        GO_KEY.replace("+ARpc", "+AhpC"),
        GO_KEY[:-4],
        f"{GO_KEY}+x",
    ],
)
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_key(line)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "x" * 201])
def test_names_that_a_note_cannot_have_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name of a key"):
        check_name(name)


def test_a_signature_of_another_key_id_is_not_the_keys() -> None:
    line = NoteSignature(name=OPERATOR.name, key_id=COSIGNER.id, signature=b"\1" * 64)
    assert Note(text=b"a\n", signatures=(line,)).of(OPERATOR) == []
