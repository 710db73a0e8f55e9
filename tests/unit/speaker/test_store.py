from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.store import Store, load, save

PEER = PeerDefinition("10.42.0.4", 65515, 64512, "10.42.1.4", password="s3cret")  # noqa: S106


def test_peers_survive_a_restart_in_a_file_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    save(path, [PEER])
    assert load(path) == ([PEER], [])
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["peers.json"]


def test_no_file_is_no_peer_and_no_complaint(tmp_path: Path) -> None:
    assert load(tmp_path / "peers.json") == ([], [])


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"peers": 5}', "\xff", "[" * 100_000])
def test_file_that_is_no_list_of_peers_is_named_and_nothing_is_raised(tmp_path: Path, text: str) -> None:
    path = tmp_path / "peers.json"
    path.write_text(text, encoding="latin-1")
    peers, complaints = load(path)
    assert peers == []
    assert str(path) in complaints[0]


def test_one_bad_entry_does_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    save(path, [PEER])
    path.write_text(path.read_text().replace('"peers": [', '"peers": [{"address": "x"}, 5, '))
    peers, complaints = load(path)
    assert peers == [PEER]
    assert len(complaints) == 2


def test_a_list_that_cannot_be_written_is_said_once_and_saved_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    folder.write_text("in the way of the directory")
    store = Store(folder / "peers.json", logging.getLogger("test"))
    for _ in range(3):
        store.save([PEER])
        assert "make room there" in str(store.problem)
    folder.unlink()
    folder.mkdir()
    for _ in range(2):
        store.save([PEER])
        assert store.problem is None
    assert load(store.path) == ([PEER], [])
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
