"""The config with what the cloud told in the places that the file leaves open. What the file says, stays."""

from __future__ import annotations

from typing import Final, Protocol

from bgp_agent.config.model import Config, Peer

ROUTE_SERVER_LIMIT: Final = 2000
"""Prefixes announced to a Route Server: half of what it takes, since it counts what it has plus what comes in."""


class Found(Protocol):
    """What was discovered; addresses as text. ``peers``: of the Route Server; ``asn``: ours."""

    @property
    def address(self) -> str | None: ...  # noqa: D102 - a field
    @property
    def address6(self) -> str | None: ...  # noqa: D102
    @property
    def asn(self) -> int | None: ...  # noqa: D102
    @property
    def server_asn(self) -> int | None: ...  # noqa: D102
    @property
    def peers(self) -> tuple[str, ...]: ...  # noqa: D102


def with_found(config: Config, found: Found) -> Config:
    """Fill in addresses, AS number and peers. Without an own AS number there is nobody to peer as, so no peer."""
    asn = config.bgp.asn or found.asn
    peers = config.bgp.peers
    if not peers and asn is not None and found.server_asn is not None:
        peers = tuple(Peer(address=each, asn=found.server_asn) for each in found.peers)
    peers = tuple(_limited(each) if each.address in found.peers else each for each in peers)
    node = config.node.model_copy(
        update={
            "address": config.node.address or found.address,
            "address6": config.node.address6 or found.address6,
        }
    )
    return config.model_copy(update={"node": node, "bgp": config.bgp.model_copy(update={"asn": asn, "peers": peers})})


def _limited(peer: Peer) -> Peer:
    return peer if peer.announce_limit is not None else peer.model_copy(update={"announce_limit": ROUTE_SERVER_LIMIT})
