"""What the router of the bench sends (RFC 4271)."""

from __future__ import annotations

import struct

from bench.rig import block
from bench.router import updates
from bgp_agent.core.prefix import Prefix, parse_address


def announced(data: bytes) -> list[Prefix]:
    """The NLRI of a stream of UPDATEs (RFC 4271 section 4.3), /26 only."""
    found = []
    while data:
        size = int.from_bytes(data[16:18], "big")
        assert size <= 4096
        assert data[18] == 2
        withdrawn, attributes = struct.unpack_from("!HH", data, 19)
        assert withdrawn == 0
        at = 23 + attributes
        while at < size:
            found.append(Prefix(data[at + 1 : at + 5] + data[at : at + 1]))
            at += 5
        data = data[size:]
    return found


def test_a_table_is_in_full_messages_and_nothing_is_lost() -> None:
    prefixes = [block(number) for number in range(5000)]
    said = updates(prefixes, parse_address("10.0.0.2"), (65001,))
    assert announced(said) == prefixes
    assert said.count(b"\xff" * 16) == -(-5000 * 5 // (4096 - 23 - 20))
