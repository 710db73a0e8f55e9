"""From the configuration to what the core and the speaker are told: settings, and one definition a peer."""

from __future__ import annotations

from bgp_agent.config import Config, Peer
from bgp_agent.core.prefix import Address, Family, Prefix, PrefixSet, family_of, parse_address, parse_prefix
from bgp_agent.core.settings import PeerSettings, Settings
from bgp_agent.core.values import Announcement
from bgp_agent.passwords import Passwords
from bgp_agent.speaker.definition import DefinitionError, PeerDefinition


def settings(config: Config) -> Settings:
    """What decisions depend on. ``config`` is a loaded one; ``node.address`` may still be unknown."""
    wanted = config.fallback.min_peers
    return Settings(
        node=config.node.name or "",
        own_asn=config.bgp.asn or 0,
        pools=_prefixes(config.pools),
        peers=tuple(map(_peer, config.bgp.peers)),
        refuse=_prefixes(config.imports.refuse),
        allow_own_as=config.bgp.allow_own_as,
        stale_time=config.bgp.stale_time,
        graceful_restart=config.bgp.graceful_restart,
        graceful_shutdown=config.bgp.graceful_shutdown,
        max_paths=config.kernel.max_paths,
        min_peers=None if wanted == "all" else wanted,
        blackhole=config.kernel.blackhole,
        install=config.kernel.install,
        own_addresses=tuple((family_of(a), a) for a in _own_addresses(config)),
    )


def _own_addresses(config: Config) -> list[Address]:
    named = (config.node.address, config.node.address6)
    return [parse_address(text) for text in named if text]


def _prefixes(texts: tuple[str, ...]) -> PrefixSet:
    return PrefixSet(map(parse_prefix, texts))


def pools(config: Config) -> frozenset[Prefix]:
    """The pools, packed."""
    return frozenset(map(parse_prefix, config.pools))


def _peer(peer: Peer) -> PeerSettings:
    return PeerSettings(
        address=peer.address,
        packed=parse_address(peer.address),
        asn=peer.asn,
        families=frozenset(map(Family, peer.families)),
        max_prefixes=peer.max_prefixes,
        warn_prefixes=peer.warn_prefixes,
        announce_limit=peer.announce_limit,
        attributes=Announcement(None, peer.med, tuple(peer.communities), peer.prepend),
    )


def definitions(config: Config, passwords: Passwords) -> dict[str, PeerDefinition]:
    """What each peer's ExaBGP is to be configured with, by address. Reads the password files.

    A peer whose password cannot be read gets a definition with a ``problem``: it stays down, and never comes up without
    its password. ``node.address`` must be known.
    """
    passwords.keep({peer.password_file for peer in config.bgp.peers if peer.password_file is not None})
    return {peer.address: _definition(config, peer, passwords) for peer in config.bgp.peers}


def _definition(config: Config, peer: Peer, passwords: Passwords) -> PeerDefinition:
    password, problem = passwords.read(peer.password_file) if peer.password_file is not None else (None, None)
    router_id = config.bgp.router_id
    if router_id is None:
        problem = "no router ID: the node has no IPv4 address to take it from; set bgp.router_id"
    try:
        return _define(config, peer, router_id or "192.0.2.1", password, problem)
    except DefinitionError as error:
        return _define(config, peer, router_id or "192.0.2.1", None, str(error))


def _define(config: Config, peer: Peer, router_id: str, password: str | None, problem: str | None) -> PeerDefinition:
    local = config.node.address6 if ":" in peer.address else config.node.address
    if local is not None and (":" in local) is not (":" in peer.address):
        local = None  # the system chooses; node.address is of the other family
    return PeerDefinition(
        address=peer.address,
        asn=peer.asn,
        local_asn=config.bgp.asn or 0,
        router_id=router_id,
        local_address=local,
        port=peer.port,
        multihop=peer.multihop,
        ttl_security=peer.ttl_security,
        passive=peer.passive,
        keyed=peer.password_file is not None,
        password=password,
        families=tuple(map(Family, peer.families)),
        hold_time=int(config.bgp.hold_time),
        graceful_restart=int(config.bgp.graceful_restart),
        problem=problem,
    )
