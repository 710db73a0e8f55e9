from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.ipam import Affinity, Block, Pool
from bgp_agent.core.prefix import parse_prefix, prefix_text
from bgp_agent.kubernetes.calico import affinities, blocks, host_hash, pools, read_affinity, read_block, read_pool
from bgp_agent.kubernetes.reflector import Unreadable


def raw(**spec: object) -> bytes:
    return json.dumps({"metadata": {"name": "x"}, "spec": spec}).encode()


def test_the_hash_of_a_node_is_the_one_that_calico_writes() -> None:
    assert host_hash("node-a") == "PY3TQE2E3XMTETLM2MJO3UITKPFB27YUJ4T4E5XGPEJON3SM4QAA"


@pytest.mark.parametrize(("deleted", "going"), [("true", True), ("false", False), (True, True), (False, False)])
def test_deleted_is_a_text_in_one_group_and_a_boolean_in_the_other(deleted: str | bool, going: bool) -> None:
    found = read_affinity(raw(cidr="10.0.0.0/26", node="a", state="confirmed", deleted=deleted))
    assert found == Affinity(parse_prefix("10.0.0.0/26"), "a", "confirmed", going=going)


def test_a_load_balancers_affinity_is_nobodys() -> None:
    assert read_affinity(raw(cidr="10.0.0.0/26", node="load-balancer", state="confirmed", type="virtual")).node == ""


def attribute(node: str | None, **more: object) -> dict[str, Any]:
    return {"handle_id": "h", "secondary": {"node": node} if node else None, **more}


def test_the_addresses_of_a_block_are_those_at_the_ordinals_of_the_nodes_attributes() -> None:
    found = read_block(
        raw(
            cidr="10.0.0.0/29",
            affinity="host:b",
            allocations=[0, None, 1, 2, 0, 9, None, None, 0],
            attributes=[attribute("a"), attribute("b"), attribute("a", releasedAt="2026-01-01T00:00:00Z")],
        ),
        "a",
    )
    assert found.owner == "b"
    assert sorted(map(prefix_text, found.used)) == ["10.0.0.0/32", "10.0.0.4/32"]


@pytest.mark.parametrize(("affinity", "owner"), [("host:a", "a"), ("virtual:load-balancer", None), (None, None),
                                                 ("host:", None), ("", None)])  # fmt: skip
def test_only_a_host_owns_a_block(affinity: str | None, owner: str | None) -> None:
    assert read_block(raw(cidr="10.0.0.0/26", affinity=affinity), "a") == Block(parse_prefix("10.0.0.0/26"), owner)


def test_a_block_of_ipv6() -> None:
    found = read_block(raw(cidr="fd00:10::/122", allocations=[None, 0], attributes=[attribute("a")]), "a")
    assert list(map(prefix_text, found.used)) == ["fd00:10::1/128"]


def test_a_pool_says_whether_it_may_be_told() -> None:
    assert read_pool(raw(cidr="10.0.0.0/16")) == Pool(parse_prefix("10.0.0.0/16"), "x", export=True)
    assert not read_pool(raw(cidr="10.0.0.0/16", disableBGPExport=True)).export


@pytest.mark.parametrize("broken", [b"", b"null", b"[]", b"{}", b'{"spec": 1}', b'{"spec": {"cidr": 5}}',
                                    raw(cidr="10.0.0.1/26", node="a"), raw(cidr="x", node="a"), raw(node="a"),
                                    b"[" * 100_000])  # fmt: skip
def test_what_is_no_object_of_its_kind_is_refused_with_words(broken: bytes) -> None:
    for read in (read_affinity, read_pool, lambda given: read_block(given, "a")):
        with pytest.raises(Unreadable, match=r"."):
            read(broken)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["10.0.0.0/29", "host:a", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["secondary", "node"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["cidr", "node", "state", "type", "deleted", "affinity", "allocations",
                                        "attributes", "disableBGPExport", "allowedUses"]), json_values))  # fmt: skip
def test_whatever_stands_in_an_object_it_is_read_or_refused(spec: dict[str, Any]) -> None:
    for read in (read_affinity, read_pool, lambda given: read_block(given, "a")):
        with contextlib.suppress(Unreadable):
            read(raw(**spec))


def test_affinities_are_asked_for_by_label_and_those_without_one_as_well() -> None:
    labelled, unlabelled = (affinities("/apis/g/v1", "node-a", labelled=each) for each in (True, False))
    assert labelled.selector == {"labelSelector": f"projectcalico.org/hostname-hash={host_hash('node-a')}"}
    assert unlabelled.selector == {"labelSelector": "!projectcalico.org/hostname-hash"}
    assert (blocks("/apis/g/v1", "a").path, pools("/apis/g/v1").path) == ("/apis/g/v1/ipamblocks", "/apis/g/v1/ippools")
