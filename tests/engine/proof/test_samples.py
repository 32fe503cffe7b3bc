"""`noria verify --sample`, what is recorded of verifications, and what signatures cover of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.engine import verifying
from noria.engine.job import drive_work
from noria.engine.proof.sealed import note_signed, sealed, signed_for_a_draw
from noria.engine.proof.signing import SigningWishes, sign
from noria.engine.record_signatures import check_signatures
from noria.engine.report.document import tell
from noria.engine.report.evidence import evidence
from noria.engine.sampling import SampleDraw, SampleFinding, sample_finding, sample_wishes
from noria.engine.terminal.verification_text import sample_text
from noria.engine.verifying import VerifyReport
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import RecordKind
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import read_seals
from noria.manifests.proof.drawing import DrawnObject, draw
from tests.engine.proof.test_proofs_of_a_move import Forger, with_column
from tests.support.checker import CHECKER, HOLDS, REFUSED, checked
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration
from tests.support.scripted_cluster import ScriptedCluster

OBJECTS = {f"d/{n:03}": f"object {n}" for n in range(120)}
RULE = "10%@90%"
DRAWN = 22
"""ceil(ln 0.1 / ln 0.9)"""

Sign = Callable[[LocalMigration], str]


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    return migration


@pytest.fixture
def signs(tmp_path: Path) -> Sign:
    """Signs a migration; the public key."""
    path = tmp_path / "mover"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)

    def signed(move: LocalMigration) -> str:
        return sign(move.migration, SigningWishes(key=path, name="example.eu/mover")).key.line

    return signed


def sampled(move: LocalMigration, rule: str = RULE, seed: str | None = None) -> VerifyReport:
    wishes = sample_wishes(rule, seed)
    return verifying.verify(move.root, cluster=ScriptedCluster(), sample=wishes)


def finding(report: VerifyReport) -> SampleFinding:
    assert report.sample is not None
    return report.sample


def keys_read(move: LocalMigration) -> set[str]:
    """Of the last verification."""
    home = JobDirectory.open(move.migration.current)
    area = max(path.name for path in home.path("verified").iterdir())
    seals = read_seals(home, f"verified/{area}")
    return {key for each in seals for key in read_result(home, each)["key"].to_pylist()}


def keys_of_sample_py(move: LocalMigration, key: str, *words: str) -> set[str]:
    """What an auditor's script draws, from what was handed over to him."""
    code, _, err = noria("prove", move.root, "--all")
    assert code == 0, err
    proof = move.root / "proof"
    for name in ("sample.py", "check.py"):
        shutil.copy(CHECKER.with_name(name), move.folder / name)
    command = [sys.executable, "-E", "-S", "sample.py", "--key", key, "--count", str(DRAWN)]
    command += [*words, "--target", f"cat {move.target}/{{key}}", str(proof)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=move.folder)
    assert ran.returncode == HOLDS, ran.stdout + ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("target ")]
    assert all(line.endswith(": same") for line in lines)
    return {line.split("'")[1] for line in lines}


# -- what is drawn ---------------------------------------------------------------------------------


def test_a_clean_sample_says_so_much_and_no_more(move: LocalMigration, signs: Sign) -> None:
    signs(move)
    report = sampled(move)
    found = finding(report)
    assert (report.level, report.exit_code, report.damaged) == ("sampled", 0, 0)
    assert (found.objects, found.drawn, found.reread) == (120, DRAWN, DRAWN)
    assert (found.is_claimed, found.checkpoint, report.reread) == (True, 1, DRAWN)
    assert len(keys_read(move)) == DRAWN
    assert sample_text(fields_of(found)) == (
        "22 objects reread, drawn after the fact from the hash of checkpoint 1: of 120 objects, at "
        "most 10 % damaged with 90 % confidence"
    )


def fields_of(found: SampleFinding) -> dict[str, Any]:
    return {name: getattr(found, name) for name in SampleFinding.__dataclass_fields__}


@pytest.mark.parametrize("seed", [None, "lottery"])
def test_an_auditor_draws_the_same_objects_from_all_passes(
    move: LocalMigration, signs: Sign, seed: str | None
) -> None:
    signs(move)
    for n in range(0, 60, 2):
        (move.source / f"d/{n:03}").unlink()
    for n in range(1, 60, 2):
        (move.source / f"d/{n:03}").write_text(f"changed {n}")
    (move.source / "new").write_text("new")
    move.sync(mirror=True, any_number=True)
    key = signs(move)
    found = finding(sampled(move, seed=seed))
    assert (found.objects, found.drawn, found.is_claimed) == (91, DRAWN, True)
    read = keys_read(move)
    assert len(read) == DRAWN
    assert read & {f"d/{n:03}" for n in range(1, 60, 2)}, "of the second pass"
    assert read & {f"d/{n:03}" for n in range(60, 120)}, "of the first one"
    signs(move)  # covers what was found, under a checkpoint that would draw others
    words = ("--checkpoint", str(found.checkpoint), *([] if seed is None else ["--seed", seed]))
    assert keys_of_sample_py(move, key, *words) == read
    assert keys_of_sample_py(move, key, "--seed", "another") != read


def test_each_checkpoint_and_each_seed_draws_others(move: LocalMigration, signs: Sign) -> None:
    signs(move)
    draws = []
    for seed in (None, "a", None):
        sampled(move, seed=seed)
        draws.append(keys_read(move))
    assert draws[0] == draws[2] != draws[1]
    signs(move)
    sampled(move)
    assert keys_read(move) != draws[0]


def test_all_that_stand_are_as_likely_to_be_drawn(move: LocalMigration, signs: Sign) -> None:
    """Beside entries that do not stand. Chi-square: five of its deviations above its mean."""
    for n in range(0, 100, 2):
        (move.source / f"d/{n:03}").unlink()
    move.sync(mirror=True, any_number=True)
    signs(move)
    kept = signed_for_a_draw(move.migration)
    drawn = [each.key for n in range(60) for each in draw(move.migration, kept, f"seed {n}", 35)]
    assert len(set(drawn)) == 70, "all that stand, and none of the others"
    expected = len(drawn) / 70
    distance = sum((drawn.count(key) - expected) ** 2 / expected for key in set(drawn))
    assert distance < 69 + 5 * (2 * 69) ** 0.5


def test_a_sample_that_would_be_all_reads_all(move: LocalMigration, signs: Sign) -> None:
    signs(move)
    report = sampled(move, "0.1%@99%")
    assert (report.level, report.reread, report.sample) == ("reread", 120, None)


# -- what is not claimed ---------------------------------------------------------------------------


def test_rot_in_many_objects_is_found_and_nothing_is_claimed(
    move: LocalMigration, signs: Sign
) -> None:
    signs(move)
    for n in range(0, 120, 2):
        (move.target / f"d/{n:03}").write_text("rotten " + "x" * n)
    report = sampled(move)
    found = finding(report)
    assert report.exit_code == 1
    assert not found.is_claimed
    assert found.damaged + found.reread == DRAWN
    assert found.damaged == report.damaged > 0
    assert "NOTHING is claimed" in sample_text(fields_of(found))
    status = json.loads(noria("status", move.root, "--json")[1])
    assert status["damaged"] == {"target_changed": found.damaged}
    assert "NOTHING is claimed" in noria("status", move.root)[1]


def test_damage_that_was_known_is_not_forgotten_by_a_sample(
    move: LocalMigration, signs: Sign
) -> None:
    signs(move)
    (move.target / "d/001").unlink()
    move.verify()
    for seed in range(20):
        sampled(move, seed=str(seed))
        if "d/001" not in keys_read(move):
            break
    else:
        pytest.fail("it is drawn each time")
    status = json.loads(noria("status", move.root, "--json")[1])
    assert status["damaged"] == {"target_missing": 1}


def test_what_is_sent_again_has_to_be_signed_again(move: LocalMigration, signs: Sign) -> None:
    signs(move)
    (move.target / "d/001").unlink()
    move.verify()
    assert noria("retry", move.root, "--metrics-address", "off")[0] == 0
    with pytest.raises(ConfigurationError, match="receipts have changed since checkpoint 1 was"):
        sampled(move)
    signs(move)
    assert finding(sampled(move)).is_claimed


def result(home: JobDirectory, causes: dict[str, str]) -> Path:
    path = home.path("failures.parquet")
    columns = {"key": [*causes.keys()], "cause": [*causes.values()]}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("causes", "said"),
    [
        ({"a": "denied"}, "1 could not be read"),
        ({"a": "denied", "b": "damaged"}, "1 damaged, missing or replaced, 1 could not be read"),
        ({}, "not all of them were read"),
    ],
)
def test_nothing_is_claimed_of_a_draw_that_was_not_read_whole(
    tmp_path: Path, causes: dict[str, str], said: str
) -> None:
    wishes = sample_wishes(RULE)
    assert wishes is not None
    each = DrawnObject(of_pass=1, shard=0, row=0, size=1, key="a")
    drawn = SampleDraw(
        wishes=wishes, objects=120, checkpoint=1, checkpoint_sha256="", drawn=[each] * DRAWN
    )
    home = JobDirectory(tmp_path)
    files = [result(home, causes)]
    found = sample_finding(drawn, home, "verified/1", files, 0, complete=True)
    assert not found.is_claimed
    assert said in sample_text(fields_of(found))


def test_without_a_signed_checkpoint_one_line_says_what_is_first(
    move: LocalMigration, signs: Sign
) -> None:
    code, out, err = noria("verify", move.root, "--sample", RULE, "--metrics-address", "off")
    (line,) = [each for each in err.splitlines() if each.startswith("noria: ")]
    assert (code, out) == (2, "")
    assert line.endswith(f"and there is none: `noria sign {move.root} --signing-key FILE` first")
    signs(move)
    checkpoint = move.root / "proof/000001/checkpoint"
    checkpoint.write_text(checkpoint.read_text().split("\n\n")[0] + "\n\n")
    with pytest.raises(ConfigurationError, match="there is none"):
        sampled(move)


def test_receipts_that_were_not_signed_are_not_drawn(tmp_path: Path, signs: Sign) -> None:
    """All digests of the directory are right, and what is noted of the checkpoint is."""
    move = LocalMigration(tmp_path)
    move.copy({"a": "first", "d/b": "second", "d/c": "third", "e": "fourth"})
    signs(move)
    kept = signed_for_a_draw(move.migration)
    Forger(move.root).change_receipts(
        lambda table: with_column(table, "crc64nvme", [1] * len(table))
    )
    note_signed(move.migration, kept)
    with pytest.raises(JobDirectoryError, match="are not those of checkpoint 1"):
        sampled(move, "50%@50%")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sample", "0.1"),
        ("--sample", "0%@99%"),
        ("--seed", "word"),
        ("--sample", RULE, "--seed", "two\nlines"),
    ],
)
def test_other_wishes_are_refused_before_anything(
    move: LocalMigration, arguments: tuple[str, ...]
) -> None:
    code, _, err = noria("verify", move.root, *arguments)
    assert code == 2
    assert "--s" in err


def test_after_a_way_back_there_is_no_sample(move: LocalMigration, signs: Sign) -> None:
    move.sync()
    move.switch()
    (move.target / "d/001").write_text("written at the target")
    assert move.rollback().exit_code == 0
    signs(move)
    with pytest.raises(ConfigurationError, match="a way back has changed what stands"):
        sampled(move)


# -- what is recorded and signed -------------------------------------------------------------------


@pytest.fixture
def proven(move: LocalMigration, signs: Sign) -> tuple[LocalMigration, str]:
    """A sample and a whole verification, each recorded, then signed, with all leaves."""
    signs(move)
    sampled(move)
    move.verify()
    key = signs(move)
    assert noria("prove", move.root, "--all")[0] == 0
    return move, key


def test_what_was_found_is_recorded_and_signed(proven: tuple[LocalMigration, str]) -> None:
    move, key = proven
    assert move.kinds == [RecordKind.VERIFIED, RecordKind.VERIFIED]
    first, second = (each.facts for each in move.records)
    assert (first["level"], first["sample_is_claimed"], first["reread"]) == ("sampled", True, 22)
    assert (second["level"], second["reread"], second["damaged"]) == ("reread", 120, 0)
    found = checked("--key", key, move.root / "proof")
    assert found.code == HOLDS, found.said
    assert "record 1: verified, '20" in found.said
    assert "'sample_damaged_at_most': '10'" in found.said
    said = noria("status", move.root)[1]
    assert "(signed): 120 objects reread and equal to their receipts; all that stood" in said


def test_what_is_not_signed_yet_is_said_to_be_so(proven: tuple[LocalMigration, str]) -> None:
    move, _ = proven
    sampled(move)
    assert "(not signed yet): 22 objects reread" in noria("status", move.root)[1]
    assert "under no signature yet" in evidence(tell(move.root, show_keys=False))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"sample_is_claimed":true', '"sample_is_claimed":false'),
        ('"sample_damaged_at_most":"10"', '"sample_damaged_at_most":"1"'),
        ('"reread":22', '"reread":120'),
        ('"by":"', '"by":"x'),
    ],
)
def test_a_changed_record_is_refused(
    proven: tuple[LocalMigration, str], old: str, new: str
) -> None:
    move, key = proven
    path = move.root / "history/000001.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert checked("--key", key, move.root / "proof").code == REFUSED
    code, _, err = noria("prove", move.root, "--check", "--trust", key)
    assert (code, "history/000002.json does not follow" in err) == (3, True), err


def test_a_record_that_was_taken_away_is_missed(proven: tuple[LocalMigration, str]) -> None:
    move, key = proven
    (move.root / "history/000002.json").unlink()
    assert checked("--key", key, move.root / "proof").code == REFUSED
    code, _, err = noria("prove", move.root, "--check", "--trust", key)
    assert (code, "is not what checkpoint 2 says (history)" in err) == (3, True), err


def test_a_job_that_names_a_key_has_its_verifications_signed(tmp_path: Path, signs: Sign) -> None:
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS, proof={"signing_key": str(tmp_path / "mover"), "name": "example.eu/mover"})
    signs(move)
    code, out, err = noria("verify", move.root, "--metrics-address", "off", "--json")
    assert code == 0, err
    assert json.loads(out)["proof"]["checkpoint"] == 2
    assert "(signed): 120 objects reread" in noria("status", move.root)[1]


def test_the_record_of_a_verification_may_be_signed_by_itself(
    move: LocalMigration, signs: Sign
) -> None:
    signs(move)
    key = move.folder / "mover"
    words = ("--signing-key", key, "--metrics-address", "off")
    assert noria("verify", move.root, *words)[0] == 0
    (record,) = move.records
    assert record.key is not None
    job_id = str(JobDirectory(move.root).job()["id"])
    assert check_signatures(job_id, move.records) == {record.key: 1}


def test_a_verification_that_is_cut_off_is_not_recorded(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*arguments: Any, **named: Any) -> Any:
        return replace(drive_work(*arguments, **named), complete=False)

    monkeypatch.setattr("noria.engine.verifying.drive_work", cut_off)
    assert (move.verify().record, move.records) == (None, [])


# -- what is sealed --------------------------------------------------------------------------------


def test_what_stands_is_sealed_as_long_as_it_is_what_was_signed(
    move: LocalMigration, signs: Sign
) -> None:
    assert sealed(move.migration) is None
    assert json.loads(noria("status", move.root, "--json")[1])["sealed"] is None
    signs(move)
    assert (
        "sealed: 120 objects, by checkpoint 1, signed by example.eu/mover"
        in (noria("status", move.root)[1])
    )
    assert "120 objects sealed: their receipts" in evidence(tell(move.root, show_keys=False))
    (move.source / "d/001").write_text("changed")
    (move.source / "new").write_text("new")
    move.sync()
    assert "sealed: not as it stands now: checkpoint 1" in noria("status", move.root)[1]
    assert "What stands is not sealed as it stands" in evidence(tell(move.root, show_keys=False))
    signs(move)
    document = json.loads(noria("status", move.root, "--json")[1])["sealed"]
    assert (document["objects"], document["is_current"]) == (121, True)


def test_passes_that_nobody_signed_are_signed_with_the_last_one(
    move: LocalMigration, signs: Sign
) -> None:
    (move.source / "new").write_text("new")
    move.sync()
    key = signs(move)
    found = checked("--key", key, move.root / "proof")
    assert "checkpoint 1, pass 1, moved: signed by example.eu/mover" in found.said
    assert "checkpoint 2, pass 2, moved: signed by example.eu/mover" in found.said
    assert finding(sampled(move)).objects == 121


def test_a_damaged_proof_does_not_hide_a_status(move: LocalMigration, signs: Sign) -> None:
    signs(move)
    checkpoint = move.root / "proof/000001/checkpoint"
    checkpoint.write_text(checkpoint.read_text().replace("ingested 120", "reread 120"))
    code, out, _ = noria("status", move.root)
    assert code == 0
    assert "120 of 120 objects" in out
    assert "NOT sealed: the signature of example.eu/mover under a checkpoint is wrong" in out
