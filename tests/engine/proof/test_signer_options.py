"""Who signs is named in the same way to both commands that sign."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration

AUTHORITY = ("--timestamp-url", "https://tsa.invalid")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    move = LocalMigration(tmp_path_factory.mktemp("move"))
    move.copy({"a": "1"})
    return move.root


@pytest.mark.parametrize(
    "given",
    [("sign",), ("cosign",), ("cosign", "--name", "a"), ("sign", *AUTHORITY, "--name", "a")],
)
def test_without_a_key_nothing_is_signed(root: Path, given: tuple[str, ...]) -> None:
    command, *options = given
    code, out, err = noria(command, root, *options)
    assert (code, out) == (2, "")
    assert err == "noria: name the key that signs: --signing-key FILE\n"
    assert not (root / "proof").exists()


def test_an_authority_alone_stamps_what_is_signed(root: Path) -> None:
    code, _, err = noria("sign", root, *AUTHORITY)
    assert code == 2
    assert "has no signed checkpoint" in err
