"""The journal: what was answered is there again, operations go on, effects that waited go on waiting."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from azure_twin.config import parse
from azure_twin.journal import Journal, JournalError

from tests.azure.twin.arm_client import BASE, Client, body


def twin(folder: Path, timing: str = "azure") -> Client:
    return Client(parse(BASE.replace("{TIMING}", timing) + f"state: {folder}\n"))


def effective(client: Client) -> list[str]:
    return [each.name for each in client.twin.arm.effective.of_kind("Microsoft.Network/routeTables/routes")]


def test_a_running_operation_goes_on_after_a_restart_and_its_effect_comes_later(tmp_path: Path) -> None:
    first = twin(tmp_path)
    made = first.put_route("r1", "192.168.1.0/26")
    path = made.headers["Azure-AsyncOperation"].split("localhost", 1)[1].split("?")[0]
    first.twin.journal.close()
    second = twin(tmp_path)
    assert body(second.ask("GET", path))["status"] == "InProgress"
    assert second.put_route("r2", "192.168.2.0/26").status == 429
    second.settle(5)
    assert body(second.ask("GET", path))["status"] == "Succeeded"
    assert effective(second) == []
    second.twin.journal.close()
    third = twin(tmp_path)
    third.settle(20)
    assert effective(third) == ["r1"]


def test_what_was_in_effect_stays_in_effect_while_a_write_goes_on(tmp_path: Path) -> None:
    first = twin(tmp_path)
    first.put_route("r1", "192.168.1.0/26", "10.42.1.4")
    first.settle()
    first.put_route("r1", "192.168.1.0/26", "10.42.1.5")
    first.twin.journal.close()
    second = twin(tmp_path)
    held = next(iter(second.twin.arm.effective.of_kind("Microsoft.Network/routeTables/routes")))
    assert held.properties["nextHopIpAddress"] == "10.42.1.4"


def test_deleted_things_stay_deleted_and_are_not_seeded_again(tmp_path: Path) -> None:
    first = twin(tmp_path, "fast")
    first.put_route("r1", "192.168.1.0/26")
    first.ask("DELETE", "routeTables/rt1/routes/r1")
    first.ask("PUT", "virtualNetworks/vnet1/subnets/nodes", {"properties": {"addressPrefix": "10.42.1.0/24"}})
    assert first.ask("DELETE", "routeTables/rt1").status == 200
    first.twin.journal.close()
    assert twin(tmp_path, "fast").ask("GET", "routeTables/rt1").status == 404


def test_a_damaged_line_is_named_and_a_torn_last_one_is_left_out(tmp_path: Path) -> None:
    first = twin(tmp_path, "fast")
    first.twin.journal.close()
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"type":"resource","sto')
    second = twin(tmp_path, "fast")
    second.twin.journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"nonsense\n", *lines[1:]]))
    with pytest.raises(JournalError, match=r"journal.jsonl:2: .*--fresh"):
        twin(tmp_path, "fast")


def test_only_one_twin_holds_a_directory(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.open(lambda _: None)
    with pytest.raises(JournalError, match="in use by another"):
        Journal(tmp_path).open(lambda _: None)
    first.close()


def test_the_journal_is_compacted_and_says_the_same(tmp_path: Path) -> None:
    first = twin(tmp_path, "fast")
    for number in range(50):
        first.put_route("r1", "192.168.1.0/26", f"10.42.1.{number + 10}")
    size = (tmp_path / "journal.jsonl").stat().st_size
    held = msgspec.json.encode(first.twin.arm.snapshot()[: len(first.twin.arm.store)])
    first.twin.journal.close()
    second = twin(tmp_path, "fast")
    assert (tmp_path / "journal.jsonl").stat().st_size < size
    assert msgspec.json.encode(second.twin.arm.snapshot()[: len(second.twin.arm.store)]) == held


def test_the_moved_clock_and_the_signing_secret_are_kept(tmp_path: Path) -> None:
    first = twin(tmp_path, "fast")
    token = str(first.twin.tokens.issue(first.identity, "x", first.time + 5000)["access_token"])
    first.twin.advance(5000)
    first.twin.journal.close()
    second = twin(tmp_path, "fast")
    assert second.twin.now() == second.time + 5000
    assert second.ask("GET", "routeTables/rt1", token=token).status == 200
