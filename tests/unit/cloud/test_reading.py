"""Whatever JSON comes, it is read or refused, never half believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.cloud import reading, wire

ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/t"
WORDS = st.sampled_from([
    "id", "name", "etag", "properties", "routes", "subnets", "addressPrefix", "addressPrefixes", "nextHopType",
    "nextHopIpAddress", "nextHop", "nextHopIpAddresses", "addressSpace", "ipConfigurations", "privateIPAddress",
    "subnet", "virtualRouterIps", "virtualRouterAsn", "peerIp", "peerAsn", "value", "enableIPForwarding",
    "remoteVirtualNetwork", "currentValue", "limit", "network", "asPath",
])  # fmt: skip
TEXTS = st.sampled_from([ID, "10.0.0.4", "10.0.0.0/24", "10.0.0.1/24", "fd00::/64", "AzureCloud", "", "64512"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=8),
    max_leaves=25,
)
#: Documents that are nearly right, which is where mistakes hide.
NEARLY = st.fixed_dictionaries({"id": st.just(ID) | VALUES, "properties": st.dictionaries(WORDS, VALUES, max_size=8)})

PAIRS: list[tuple[Any, Callable[[Any], object]]] = [
    (wire.NicWire, reading.nic),
    (wire.NetworkWire, reading.network),
    (wire.TableWire, reading.table),
    (wire.ServerWire, reading.server),
    (wire.HubIpWire, reading.hub_subnet),
    (wire.ConnectionWire, reading.connection),
    (wire.EffectiveWire, reading.effective),
    (dict[str, list[msgspec.Raw] | None], reading.learned),
]


@pytest.mark.parametrize(("kind", "read"), PAIRS)
@given(value=VALUES | NEARLY)
def test_nothing_breaks_the_readers(kind: Any, read: Callable[[Any], object], value: object) -> None:  # noqa: ANN401
    try:
        found = msgspec.json.decode(json.dumps(value).encode(), type=kind)
        read(found)
    except (msgspec.ValidationError, ValueError):
        return


@given(st.lists(VALUES, max_size=6))
def test_every_route_of_a_table_is_read_or_named(routes: list[object]) -> None:
    document = {"id": ID, "properties": {"routes": routes}}
    found = reading.table(msgspec.json.decode(json.dumps(document).encode(), type=wire.TableWire))
    assert len(found.routes) + len(found.unread) == len(routes)
