"""What was discovered last: kept for the next start, and refused where no discovery would have found it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgp_agent.cloud.remembered import FILE, MAX_BYTES, Remembered, load, save

TABLE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/rt1"
WHOLE = Remembered(
    address="10.42.1.4", address6="fd00::4", asn=64512, server=TABLE.replace("routeTables", "virtualHubs"),
    server_asn=65515, peers=("10.42.0.4", "10.42.0.5"), tables=(TABLE,), alone="no peering", environment="AzureCloud",
)  # fmt: skip


def test_what_is_kept_is_found_again_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    save(tmp_path, WHOLE)
    save(tmp_path, WHOLE)
    assert load(tmp_path) == WHOLE
    assert [each.name for each in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000, b'{"asn": "x"}', b'{"asn": 0}',
        b'{"server_asn": 4294967296}',
        b'{"address": "not one"}', b'{"address6": "10.0.0.0/8"}', b'{"peers": ["10.42.0.4", "garbage"]}',
        b'{"tables": ["rt1"]}', b'{"connection": "/subscriptions/../etc"}', b'{"alone": "' + b"x" * MAX_BYTES + b'"}',
    ],
)  # fmt: skip
def test_a_file_with_anything_else_in_it_is_as_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    assert load(tmp_path) is None


def test_a_disk_that_cannot_be_written_or_read_costs_only_the_memory(tmp_path: Path) -> None:
    save(tmp_path / "nowhere", WHOLE)
    (tmp_path / FILE).mkdir()
    save(tmp_path, WHOLE)
    assert load(tmp_path) is None
