"""From the configuration to what the core and the speaker are told: settings, and one definition a peer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bgp_agent.config import Config, Peer
from bgp_agent.core.prefix import Address, Family, Prefix, PrefixSet, family_of, parse_address, parse_prefix
from bgp_agent.core.settings import PeerSettings, Settings
from bgp_agent.core.values import Announcement
from bgp_agent.speaker.definition import DefinitionError, PeerDefinition

#: More than TCP-MD5 takes (80 bytes, linux/tcp.h): a longer file is no password file.
_PASSWORD_BYTES: Final = 4096


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


def definitions(config: Config) -> dict[str, PeerDefinition]:
    """What each peer's ExaBGP is to be configured with, by address. Reads the password files.

    A peer whose password cannot be read gets a definition with a ``problem``: it stays down, and never comes up without
    its password. ``node.address`` must be known.
    """
    return {peer.address: _definition(config, peer) for peer in config.bgp.peers}


def _definition(config: Config, peer: Peer) -> PeerDefinition:
    password, problem = _password(peer)
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
        password=password,
        families=tuple(map(Family, peer.families)),
        hold_time=int(config.bgp.hold_time),
        graceful_restart=int(config.bgp.graceful_restart),
        problem=problem,
    )


def _password(peer: Peer) -> tuple[str | None, str | None]:
    """The password, and why there is none although there should be one."""
    if peer.password_file is None:
        return None, None
    path = Path(peer.password_file)
    remedy = "the session stays down until it can be read"
    try:
        with path.open("rb") as file:
            data = file.read(_PASSWORD_BYTES)
    except FileNotFoundError:
        return None, f"password_file {path} is not there; {remedy}"
    except OSError as error:
        return None, f"password_file {path} cannot be read ({error.strerror}); {remedy}"
    text = data.removesuffix(b"\n").decode("ascii", "replace")
    if not text:
        return None, f"password_file {path} is empty; {remedy}"
    return text, None
