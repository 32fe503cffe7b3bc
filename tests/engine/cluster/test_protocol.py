"""What is said between a driver and its workers, apart from who carries it."""

from __future__ import annotations

import socket

import pytest

from noria.engine.cluster.protocol import NAME_LETTERS, Host


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("node-b.example.org", "node-b.example.org"),
        ("../../etc/x", ".._.._etc_x"),
        ("a b\n\x1b[31m\udcff", "a_b___31m_"),
        ("", "_"),
        ("n" * 300, "n" * NAME_LETTERS),
    ],
)
def test_a_host_has_a_name_for_files_labels_and_terminals(
    monkeypatch: pytest.MonkeyPatch, called: str, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: called)
    assert Host.own("7") == Host(id="7", name=name)
