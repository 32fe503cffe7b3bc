"""Time stamps of checkpoints, by an authority that answers on loopback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.engine.proof.timestamps import ANSWER_BYTES_MAX, ask_for_time_stamp, read_time_stamp
from noria.manifests.errors import ConfigurationError
from noria.manifests.proof.folder import ProofFolder
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration
from tests.support.time_stamping import TimeStampingAuthority, time_stamping


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[TimeStampingAuthority]:
    with time_stamping(tmp_path / "authority") as found:
        yield found


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy({"a": "first", "b": "second"})
    return migration


@pytest.fixture
def key(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)
        return path

    return make


def stamp_of(move: LocalMigration, number: int = 1) -> Path:
    return move.root / "proof" / f"{number:06d}" / "checkpoint.tsr"


def test_what_is_signed_is_stamped_and_openssl_confirms_it(
    move: LocalMigration, authority: TimeStampingAuthority, key: Callable[[str], Path]
) -> None:
    code, out, err = noria(
        "sign", move.root, "--signing-key", key("mover"), "--timestamp-url", authority.url
    )
    assert code == 0, err
    assert "time stamp: checkpoint 1 was there by " in out
    note = ProofFolder(move.root).file(1).read_bytes()
    assert authority.confirms(stamp_of(move), note)
    assert not authority.confirms(stamp_of(move), note + b"x")
    # The command that it prints does the same.
    command = next(line for line in out.splitlines() if line.startswith("  openssl ts"))
    command = command.replace("roots.pem", str(authority.roots))
    said = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
    assert "Verification: OK" in said.stdout
    # Only a digest has left this machine.
    assert len(authority.asked) == 1
    assert len(authority.asked[0]) < 80


def test_it_is_asked_for_once_and_holds_when_another_signs(
    move: LocalMigration, authority: TimeStampingAuthority, key: Callable[[str], Path]
) -> None:
    arguments = ("sign", move.root, "--signing-key", key("mover"), "--json")
    code, out, _ = noria(*arguments)
    assert (code, "timestamp" in json.loads(out)) == (0, False)
    before = ProofFolder(move.root).file(1).read_bytes()
    for expected in (True, False):
        code, out, err = noria("sign", move.root, "--timestamp-url", authority.url, "--json")
        assert code == 0, err
        assert json.loads(out)["timestamp"]["asked"] is expected
    code, out, _ = noria(*arguments, "--timestamp-url", authority.url)
    assert (code, json.loads(out)["timestamp"]["asked"]) == (0, False)
    assert len(authority.asked) == 1
    code, _, err = noria("cosign", move.root, "--signing-key", key("auditor"))
    assert code == 0, err
    assert ProofFolder(move.root).file(1).read_bytes() != before
    assert authority.confirms(stamp_of(move), before)
    code, out, _ = noria("sign", move.root, "--timestamp-url", authority.url)
    assert (code, "it had a time stamp already" in out) == (0, True)
    # Another pass is another checkpoint.
    (move.source / "c").write_text("third")
    move.sync()
    code, out, _ = noria(*arguments, "--timestamp-url", authority.url)
    assert json.loads(out)["timestamp"]["checkpoint"] == 2
    assert authority.confirms(stamp_of(move, 2), ProofFolder(move.root).file(2).read_bytes())


def test_over_tls(
    move: LocalMigration,
    tmp_path: Path,
    key: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with time_stamping(tmp_path / "authority", tls=True) as authority:
        arguments = ("sign", move.root, "--signing-key", key("mover"))
        code, out, _ = noria(*arguments, "--timestamp-url", authority.url)
        assert (code, "certificate verify failed" in out) == (1, True)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.roots))
        code, out, _ = noria("sign", move.root, "--timestamp-url", authority.url)
        assert code == 0, out
        assert authority.confirms(stamp_of(move), ProofFolder(move.root).file(1).read_bytes())


def test_the_signature_stands_if_no_authority_answers(
    move: LocalMigration, authority: TimeStampingAuthority, key: Callable[[str], Path]
) -> None:
    nobody = "http://127.0.0.1:1/tsr"
    code, out, _ = noria("sign", move.root, "--signing-key", key("m"), "--timestamp-url", nobody)
    assert code == 1
    assert "NOT time-stamped: no time stamp from 127.0.0.1: Connection refused" in out
    assert f"ask again: noria sign {move.root} --timestamp-url URL" in out
    assert ProofFolder(move.root).checkpoints()[0].note.signatures
    assert not stamp_of(move).exists()
    code, _, err = noria("sign", move.root, "--timestamp-url", nobody)
    assert (code, "Connection refused" in err) == (2, True)
    code, _, err = noria("sign", move.root, "--timestamp-url", authority.url)
    assert code == 0, err


def of_other_bytes(authority: TimeStampingAuthority, query: bytes) -> bytes:
    return authority.stamp_of(b"something else")


def of_another_query(authority: TimeStampingAuthority, query: bytes) -> bytes:
    """The same bytes, and another nonce: what was recorded before is played again."""
    answer = authority.stamp(query)
    nonce = read_time_stamp(answer).nonce
    assert nonce is not None
    told = nonce.to_bytes((nonce.bit_length() + 8) // 8, "big")
    assert query.count(told) == 1
    return authority.stamp(query.replace(told, told[:-1] + bytes([told[-1] ^ 1])))


def without_nonce(authority: TimeStampingAuthority, query: bytes) -> bytes:
    digest = query[query.index(b"\x04\x20") + 2 :][:32].hex()
    other = authority.folder / "other-query"
    said = ["-digest", digest, "-sha256", "-no_nonce", "-cert", "-out", str(other)]
    subprocess.run(["openssl", "ts", "-query", *said], check=True, capture_output=True)
    return authority.stamp(other.read_bytes())


def refused(authority: TimeStampingAuthority, query: bytes) -> bytes:
    return authority.stamp(b"no query at all")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (of_other_bytes, "of something else than what was sent"),
        (of_another_query, "of something else than what was sent"),
        (without_nonce, "of something else than what was sent"),
        (refused, "it refuses: Bad request format"),
        (lambda authority, query: b"", "not an answer of a time-stamping authority"),
        (lambda authority, query: b"<html>", "not an answer of a time-stamping authority"),
        (lambda authority, query: authority.stamp(query)[:-1], "not an answer"),
        (lambda authority, query: authority.stamp(query) + b"x", "goes on after the end"),
        (lambda authority, query: b"\x30\x03\x02\x01\x00", "not an answer"),
        (lambda authority, query: b"\x30\x05\x30\x03\x02\x01\x00", "without a time stamp"),
        (lambda authority, query: b"\x30\x80" * 100_000, "not an answer"),
        (lambda authority, query: bytes(ANSWER_BYTES_MAX + 1), "its answer is too long"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_not_kept(
    move: LocalMigration,
    authority: TimeStampingAuthority,
    key: Callable[[str], Path],
    answer: Callable[[TimeStampingAuthority, bytes], bytes],
    reason: str,
) -> None:
    authority.answer = lambda query: answer(authority, query)
    code, out, _ = noria(
        "sign", move.root, "--signing-key", key("mover"), "--timestamp-url", authority.url
    )
    assert (code, reason in out) == (1, True), out
    assert not stamp_of(move).exists()
    assert ProofFolder(move.root).checkpoints()[0].note.signatures


def test_an_error_of_the_server_is_told(authority: TimeStampingAuthority) -> None:
    authority.status = 503
    with pytest.raises(ConfigurationError, match=r"no time stamp from 127\.0\.0\.1: .*HTTP 503"):
        ask_for_time_stamp(authority.url, b"text")


@pytest.mark.parametrize(
    "url", ["ftp://a/", "https://", "https:///a", "file:///etc/passwd", "http://u:p@a/", "a b"]
)
def test_an_address_that_no_authority_has(
    move: LocalMigration, key: Callable[[str], Path], url: str
) -> None:
    code, _, err = noria("sign", move.root, "--signing-key", key("mover"), "--timestamp-url", url)
    assert (code, "http:// or https://" in err) == (2, True)
    assert ProofFolder(move.root).checkpoints() == []


def test_a_key_or_an_authority_has_to_be_named(move: LocalMigration) -> None:
    for arguments in ((), ("--name", "a", "--timestamp-url", "http://a"), ("--name", "a")):
        code, _, err = noria("sign", move.root, *arguments)
        assert (code, "--signing-key FILE" in err) == (2, True)
    code, _, err = noria("sign", move.root, "--timestamp-url", "http://127.0.0.1:1")
    assert (code, "has no signed checkpoint" in err) == (2, True)


def test_a_stamp_of_another_checkpoint_is_found(
    move: LocalMigration, authority: TimeStampingAuthority, key: Callable[[str], Path]
) -> None:
    arguments = ("sign", move.root, "--signing-key", key("mover"), "--timestamp-url", authority.url)
    assert noria(*arguments)[0] == 0
    (move.source / "c").write_text("third")
    move.sync()
    assert noria(*arguments)[0] == 0
    code, out, err = noria("prove", move.root, "--check", "--json")
    assert code == 1, err  # no key is trusted
    assert all(each["stamped_seconds"] for each in json.loads(out)["passes"])
    right = stamp_of(move, 2).read_bytes()
    for wrong, reason in (
        (stamp_of(move, 1).read_bytes(), "is not of this checkpoint"),
        (authority.stamp_of(b"anything"), "is not of this checkpoint"),
        (right[:-1], "is not a time stamp"),
        (authority.stamp(b"no query"), "is not a time stamp"),
    ):
        stamp_of(move, 2).write_bytes(wrong)
        code, _, err = noria("prove", move.root, "--check")
        assert (code, reason in err) == (3, True), err
        code, out, _ = noria(*arguments)
        assert (code, reason in out) == (1, True)
        assert stamp_of(move, 2).read_bytes() == wrong
    stamp_of(move, 2).write_bytes(right)
    code, out, _ = noria("prove", move.root, "--check")
    assert "time stamp of 20" in out


def test_it_is_published_with_what_it_is_of(
    move: LocalMigration,
    authority: TimeStampingAuthority,
    key: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    arguments = ("sign", move.root, "--signing-key", key("mover"))
    place = tmp_path / "evidence"
    assert noria(*arguments)[0] == 0
    assert noria("publish-proof", move.root, f"{place}/")[0] == 0
    assert noria(*arguments, "--timestamp-url", authority.url)[0] == 0
    code, out, err = noria("publish-proof", move.root, f"{place}/")
    assert code == 0, err
    assert "1 file written" in out
    published = place / "000001" / "checkpoint.tsr"
    assert published.read_bytes() == stamp_of(move).read_bytes()
    assert authority.confirms(published, (place / "000001" / "checkpoint").read_bytes())


def test_a_job_file_names_an_authority(
    authority: TimeStampingAuthority, tmp_path: Path, key: Callable[[str], Path]
) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a").write_text("first")
    (tmp_path / "copy").mkdir()
    key("mover")
    file = tmp_path / "move.toml"
    file.write_text(
        'source = "./lake"\ntarget = "./copy"\n[run]\nmetrics_address = "off"\n'
        f'[proof]\nsigning_key = "mover"\ntimestamp_url = "{authority.url}"\n'
    )
    code, out, err = noria("run", file, "-q")
    assert code == 0, err
    assert ", time stamp of 20" in out
    note = tmp_path / "move" / "proof" / "000001" / "checkpoint"
    assert authority.confirms(note.with_name("checkpoint.tsr"), note.read_bytes())
    authority.status = 500
    (tmp_path / "lake" / "b").write_text("second")
    code, out, err = noria("sync", tmp_path / "move", "-q")
    assert code == 0, err
    assert "signed: checkpoint 2" in out
    assert "NOT time-stamped: no time stamp from 127.0.0.1: it answers HTTP 500" in out
    file.write_text(file.read_text().replace('signing_key = "mover"\n', ""))
    code, _, err = noria("run", file, "-q")
    assert (code, "timestamp_url is for a job with signing_key" in err) == (2, True)
