"""Calico's objects as the core's values, from either of its API groups.

``crd.projectcalico.org/v1`` is what a classic installation keeps; ``projectcalico.org/v3`` are native CRDs since v3.32,
and may also be an aggregated server in front of the other, without IPAMBlocks. So v1 wins where both are served, as in
Calico's own libraries. ``deleted`` of an affinity is a text in v1 and a boolean in v3.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import msgspec

from bgp_agent.core.ipam import Affinity, Block, Pool
from bgp_agent.core.prefix import Address, Prefix, PrefixError, host, parse_prefix
from bgp_agent.kubernetes.api import Api
from bgp_agent.kubernetes.errors import clean
from bgp_agent.kubernetes.reflector import Kind, Unreadable, served

GROUPS: Final = ("/apis/crd.projectcalico.org/v1", "/apis/projectcalico.org/v3")
"""Group and version, the one that is preferred first."""
NEEDED: Final = frozenset({"blockaffinities", "ipamblocks", "ippools"})
"""What a group must serve to be the one that Calico works with."""
HASH_LABEL: Final = "projectcalico.org/hostname-hash"
"""Label of affinities written since Calico v3.31."""
GOING: Final = "pendingDeletion"


class _AffinitySpec(msgspec.Struct):
    cidr: str
    node: str
    state: str = ""
    type: str = "host"
    deleted: str | bool = False


class _Affinity(msgspec.Struct):
    spec: _AffinitySpec


class _Attribute(msgspec.Struct):
    secondary: dict[str, Any] | None = None
    released: Any = msgspec.field(default=None, name="releasedAt")


class _BlockSpec(msgspec.Struct):
    cidr: str
    affinity: str | None = None
    allocations: list[int | None] | None = None
    attributes: list[_Attribute] | None = None
    deleted: bool = False


class _Block(msgspec.Struct):
    spec: _BlockSpec


class _PoolSpec(msgspec.Struct):
    cidr: str
    secret: bool = msgspec.field(default=False, name="disableBGPExport")


class _Pool(msgspec.Struct):
    spec: _PoolSpec


_AFFINITY: Final = msgspec.json.Decoder(_Affinity)
_BLOCK: Final = msgspec.json.Decoder(_Block)
_POOL: Final = msgspec.json.Decoder(_Pool)
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PrefixError)


async def find_group(api: Api) -> str | None:
    """The group that Calico works with now; None while none is served whole. Raises as :func:`served`."""
    for group in GROUPS:
        if await served(api, group) >= NEEDED:
            return group
    return None


def host_hash(node: str) -> str:
    """The value of :data:`HASH_LABEL` for a node: base32 of SHA3-256 without padding."""
    return base64.b32encode(hashlib.sha3_256(node.encode()).digest()).decode().rstrip("=")


def affinities(group: str, node: str, *, labelled: bool) -> Kind[Affinity]:
    """The node's affinities: those with the label, or, of all nodes, those without one (written before v3.31)."""
    selector = f"{HASH_LABEL}={host_hash(node)}" if labelled else f"!{HASH_LABEL}"
    return Kind(
        group, "blockaffinities", read_affinity, lambda a: a.going or a.state == GOING, {"labelSelector": selector}
    )


def blocks(group: str, node: str) -> Kind[Block]:
    """Every block of the cluster: they carry no label, and any of them may hold an address of this node."""
    return Kind(group, "ipamblocks", lambda raw: read_block(raw, node), lambda block: block.going)


def pools(group: str) -> Kind[Pool]:
    """The pools."""
    return Kind(group, "ippools", read_pool)


def read_affinity(raw: bytes) -> Affinity:
    """A BlockAffinity. One that is not of a host (``virtual``) reads as nobody's. Raises :class:`Unreadable`."""
    try:
        spec = _AFFINITY.decode(raw).spec
        node = spec.node if spec.type == "host" else ""
        return Affinity(parse_prefix(spec.cidr), node, spec.state, going=spec.deleted in {True, "true"})
    except _BAD as error:
        raise Unreadable(clean(error)) from error


def read_block(raw: bytes, node: str) -> Block:
    """An IPAMBlock, with the addresses that ``node`` uses in it. Raises :class:`Unreadable`."""
    try:
        spec = _BLOCK.decode(raw).spec
        cidr = parse_prefix(spec.cidr)
    except _BAD as error:
        raise Unreadable(clean(error)) from error
    kind, _, affinity = (spec.affinity or "").partition(":")
    owner = affinity if kind == "host" and affinity else None
    used, elsewhere = _used(cidr, spec, node, owner)
    return Block(cidr, owner, used, going=spec.deleted, elsewhere=elsewhere)


def _used(
    cidr: Prefix, spec: _BlockSpec, node: str, owner: str | None
) -> tuple[frozenset[Prefix], tuple[tuple[Prefix, str], ...]]:
    """The addresses in use on this node, and those on nodes that are neither this one nor the block's owner.

    In use is an address at whose ordinal an attribute stands that names a node and is not released.
    """
    users = {
        index: user
        for index, each in enumerate(spec.attributes or [])
        if each.secondary is not None
        and isinstance(user := each.secondary.get("node"), str)
        and user
        and (user == node or user != owner)
        and each.released is None
    }
    if not users:
        return frozenset(), ()
    size = len(cidr) - 1
    first = int.from_bytes(cidr[:-1], "big")
    room = 1 << (size * 8 - cidr[-1])
    found = [
        (host(Address((first + ordinal).to_bytes(size, "big"))), users[index])
        for ordinal, index in enumerate((spec.allocations or [])[:room])
        if index in users
    ]
    return frozenset(p for p, user in found if user == node), tuple(each for each in found if each[1] != node)


def read_pool(raw: bytes) -> Pool:
    """An IPPool. Raises :class:`Unreadable`."""
    try:
        spec = _POOL.decode(raw).spec
        name = msgspec.json.decode(raw, type=_Named).metadata.name
        return Pool(parse_prefix(spec.cidr), name, export=not spec.secret)
    except _BAD as error:
        raise Unreadable(clean(error)) from error


class _Meta(msgspec.Struct):
    name: str = ""


class _Named(msgspec.Struct):
    metadata: _Meta
