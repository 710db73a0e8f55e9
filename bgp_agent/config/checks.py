"""What more than one key must agree on: required keys, families, limits, prefixes that make no sense.

Each check is a function from the config to problems, so that one wrong key never hides another. Errors stop the config
from being used; warnings are said once and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Final

from bgp_agent.config.model import Config
from bgp_agent.config.problems import Problem
from bgp_agent.config.scalars import split_listen
from bgp_agent.config.yaml12 import Key
from bgp_agent.core.prefix import covers, host, length_of, overlaps, parse_address, parse_prefix

_NEVER_PODS: Final = tuple(
    (parse_prefix(prefix), what)
    for prefix, what in (
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/3", "multicast and reserved space"),
        ("0.0.0.0/8", "the unspecified network"),
        ("::/8", "loopback and reserved space"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
_NEVER_PEER: Final = tuple(entry for entry in _NEVER_PODS if "loopback" not in entry[1])

_TAKEN_PROTOCOLS: Final = {
    8: "gated", 9: "RouteAdvertisements", 10: "MRT", 11: "Zebra", 12: "BIRD", 16: "DHCP", 17: "mrouted",
    18: "keepalived", 42: "Babel", 80: "Felix", 186: "FRR's BGP", 187: "FRR's IS-IS", 188: "FRR's OSPF",
    189: "FRR's RIP", 192: "FRR's EIGRP",
}  # fmt: skip


def errors(config: Config) -> list[Problem]:
    """Everything that keeps the config from being used."""
    return [problem for check in _ERRORS for problem in check(config)]


def warnings(config: Config, written: object) -> list[Problem]:
    """What is allowed, and probably not meant. ``written``: the file's own value, before defaults."""
    return [*_odd_addresses(config), *_odd_kernel(config), *_odd_http(config), *_odd_sections(config, written)]


def _required(config: Config) -> Iterator[Problem]:
    if not config.pools and config.blocks.source == "node":
        yield Problem(("pools",), "is required with blocks.source: node: Kubernetes does not tell the pods' range")
    if config.azure is not None:
        return
    if config.bgp.asn is None:
        yield Problem(("bgp", "asn"), "is required: the own AS number, such as 64512")
    if not config.bgp.peers:
        yield Problem(("bgp", "peers"), "at least one peer is required: - {address: 10.42.0.4, asn: 65515}")
    if not config.pools and config.blocks.source == "file":
        yield Problem(
            ("pools",), "is required with blocks.source: file: the pods' address space, such as [192.168.0.0/16]"
        )


def _pools(config: Config) -> Iterator[Problem]:
    pools = [parse_prefix(pool) for pool in config.pools]
    for index, pool in enumerate(pools):
        text = config.pools[index]
        for never, what in _NEVER_PODS:
            if covers(never, pool):
                yield Problem(("pools", index), f"{text} is {what}: no pod has an address there")
                break
        else:
            if length_of(pool) < 8:
                yield Problem(
                    ("pools", index), f"{text} is too wide: a pool is at least a /8, and never a default route"
                )
    for (_, one), (second, other) in combinations(enumerate(pools), 2):
        if overlaps(one, other):
            yield Problem(("pools", second), f"{config.pools[second]} overlaps another pool: keep one of the two")


def _node(config: Config) -> Iterator[Problem]:
    for name in ("address", "address6"):
        text = getattr(config.node, name)
        if text and (what := _never_peer(text)):
            yield Problem(("node", name), f"{text} is {what}: name an address of this node")
    if config.bgp.router_id == "0.0.0.0":  # noqa: S104 - compared, not bound to
        yield Problem(
            ("bgp", "router_id"), "0.0.0.0 is no BGP identifier (RFC 6286): name an IPv4 address of this node"
        )
    if config.node.address and ":" in config.node.address and config.bgp.router_id is None:
        yield Problem(("bgp", "router_id"), "is required when node.address is IPv6: any IPv4 address, unique in the AS")


def _timers(config: Config) -> Iterator[Problem]:
    for name in ("hold_time", "graceful_restart"):
        seconds: float = getattr(config.bgp, name)
        if seconds != int(seconds):
            yield Problem(("bgp", name), "BGP counts whole seconds here: write it with s, m or h")
    if 0 < config.bgp.hold_time < 3:
        yield Problem(("bgp", "hold_time"), "must be 0 or at least 3s (RFC 4271 section 4.2)")


def _peers(config: Config) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, peer in enumerate(config.bgp.peers):
        key: Key = ("bgp", "peers", index)
        if peer.address in seen:
            yield Problem(
                (*key, "address"), f"{peer.address} is also peer {seen[peer.address]}: one session for an address"
            )
        seen.setdefault(peer.address, index)
        if what := _never_peer(peer.address):
            yield Problem((*key, "address"), f"{peer.address} is {what}: no BGP peer answers there")
        if peer.address in (config.node.address, config.node.address6):
            yield Problem((*key, "address"), f"{peer.address} is this node's own address")
        if peer.ttl_security and "multihop" in peer.model_fields_set and peer.multihop is not None:
            yield Problem(
                (*key, "ttl_security"), "excludes multihop, GTSM sets the TTL itself (RFC 5082): keep one of the two"
            )
        if len(set(peer.families)) != len(peer.families):
            yield Problem((*key, "families"), "names a family twice")
        if peer.warn_prefixes is not None and peer.warn_prefixes > peer.max_prefixes:
            yield Problem((*key, "warn_prefixes"), f"must not be above max_prefixes ({peer.max_prefixes})")


def _fallback(config: Config) -> Iterator[Problem]:
    wanted, peers = config.fallback.min_peers, len(config.bgp.peers)
    if isinstance(wanted, int) and peers and wanted > peers:
        yield Problem(("fallback", "min_peers"), f"{wanted} peers are wanted, but bgp.peers has {peers}")


def _kernel(config: Config) -> Iterator[Problem]:
    if config.kernel.table == 255:
        yield Problem(
            ("kernel", "table"), "255 is the kernel's own table (local): use 254 (main) or a number of your own"
        )


def _http(config: Config) -> Iterator[Problem]:
    if config.http.metrics_listen == config.http.listen:
        yield Problem(
            ("http", "metrics_listen"), "is the same as http.listen, which serves /metrics already: leave it out"
        )


def _azure(config: Config) -> Iterator[Problem]:
    azure = config.azure
    if azure and azure.arm_url and azure.arm_url.startswith("http:") and not azure.allow_http:
        yield Problem(
            ("azure", "arm_url"), "is plain http, and the token would be readable: use https, or allow_http: true"
        )


_ERRORS: Final = (_required, _pools, _node, _timers, _peers, _fallback, _kernel, _http, _azure)


def _never_peer(text: str) -> str | None:
    address = host(parse_address(text))
    return next((what for never, what in _NEVER_PEER if covers(never, address)), None)


def _odd_addresses(config: Config) -> Iterator[Problem]:
    pools = [parse_prefix(pool) for pool in config.pools]
    named: list[tuple[Key, str]] = [(("bgp", "peers", i, "address"), p.address) for i, p in enumerate(config.bgp.peers)]
    named += [(("node", "address"), config.node.address)] if config.node.address else []
    for key, text in named:
        if any(covers(pool, host(parse_address(text))) for pool in pools):
            yield Problem(
                key, f"{text} lies in a pool: pools are for pods, and nothing learned may cover a peer or node"
            )
    for index, peer in enumerate(config.bgp.peers):
        if "ipv6" in peer.families and ":" not in peer.address and not config.node.address6:
            yield Problem(
                ("bgp", "peers", index, "families"),
                "IPv6 blocks need a next hop on an IPv4 session: set node.address6, or they are withheld",
            )


def _odd_kernel(config: Config) -> Iterator[Problem]:
    if owner := _TAKEN_PROTOCOLS.get(config.kernel.protocol):
        yield Problem(
            ("kernel", "protocol"), f"{config.kernel.protocol} is {owner}'s number: routes of both look alike"
        )


def _odd_http(config: Config) -> Iterator[Problem]:
    host_part, _ = split_listen(config.http.listen)
    if host_part not in ("localhost", "::1") and not host_part.startswith("127."):
        yield Problem(
            ("http", "listen"), f"{config.http.listen} is not loopback: whoever reaches it can read the state"
        )


def _odd_sections(config: Config, written: object) -> Iterator[Problem]:
    if not isinstance(written, dict):
        return
    if "azure" in written and written["azure"] is None:
        yield Problem(("azure",), "is empty, which means off: write {} to discover everything, or leave it out")
    fallback = written.get("fallback")
    mode = fallback.get("mode", "off") if isinstance(fallback, dict) else "off"
    if config.azure is None and mode != "off":
        yield Problem(("fallback", "mode"), f"{mode} has no effect without the section azure: it is off")
