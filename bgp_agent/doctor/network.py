"""The checks that look at the network around this machine: peers, MTU, other daemons' routes."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from bgp_agent.config import Peer
from bgp_agent.core.prefix import parse_address, prefix_text
from bgp_agent.core.seen import KernelRoute
from bgp_agent.core.values import Unicast
from bgp_agent.doctor.checks import Context, no_config
from bgp_agent.doctor.findings import Finding, Verdict

CONNECT: Final = 2.0
"""Seconds that a peer has to answer."""
LEAST_MTU: Final = 1280  # RFC 8200 section 5: IPv6 does not go below
PROTOCOLS: Final = {
    3: "boot", 4: "static", 9: "ra", 11: "zebra", 12: "bird", 16: "dhcp", 18: "babel", 42: "babel",
    80: "Calico's Felix", 186: "bgp (FRR)", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp", 196: "static (FRR)",
}  # fmt: skip
"""Who writes which protocol number (rt_protos of iproute2; 80 is Felix's DeviceRouteProtocol)."""


async def peers(context: Context) -> Iterable[Finding]:
    """Does each peer take a connection; all at once, and only those without a session."""
    if context.config is None:
        return no_config("peers")
    status = context.status
    up = {one.address for one in status.peers if one.state == "established"} if status else set()
    return await asyncio.gather(*(_peer(peer, established=peer.address in up) for peer in context.config.bgp.peers))


async def _peer(peer: Peer, *, established: bool) -> Finding:
    name, where = f"peer {peer.address}", f"TCP port {peer.port}"
    if established:
        return Finding(name, Verdict.OK, "the session is established")
    if peer.passive:
        return Finding(name, Verdict.SKIP, "passive: it connects to us")
    try:
        async with asyncio.timeout(CONNECT):
            _, writer = await asyncio.open_connection(peer.address, peer.port)
        writer.transport.abort()  # a reset, so that the peer holds nothing for a session that does not come
    except TimeoutError:
        return _silent(peer, name, where)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno == errno.ECONNREFUSED:
            remedy = "start BGP there, and let it take connections from this node's address"
            return Finding(name, Verdict.FAIL, f"refuses connections to {where}", remedy)
        return Finding(name, Verdict.FAIL, f"cannot be reached: {reason}", f"ip route get {peer.address}")
    return Finding(name, Verdict.OK, f"takes connections to {where}")


def _silent(peer: Peer, name: str, where: str) -> Finding:
    if peer.password_file:
        seen = f"no answer from {where}; with a password that says nothing, a SYN without the key is dropped"
        return Finding(name, Verdict.WARN, seen, "start the agent and see `bgp-agent status`")
    remedy = f"check the address, security groups and filters: `ping {peer.address}`, `ip route get {peer.address}`"
    return Finding(name, Verdict.FAIL, f"no answer from {where} within {CONNECT:g} s", remedy)


async def mtu(context: Context) -> Iterable[Finding]:
    """The MTU of the links towards the peers, and whether a local link sends larger packets than they take."""
    if context.config is None:
        return no_config("mtu")
    if context.kernel is None:
        return [Finding("mtu", Verdict.SKIP, f"the kernel cannot be read: {context.kernel_problem}")]
    hops = context.kernel.next_hops
    towards = {
        hop.interface for peer in context.config.bgp.peers for hop in hops.resolve(parse_address(peer.address)).hops
    }
    uplinks = [link for link in hops.links() if link.index in towards and not link.loopback]
    if not uplinks:
        return [Finding("mtu", Verdict.SKIP, "there is no route to a peer")]
    least = min(link.mtu for link in uplinks)
    shown = ", ".join(f"{link.name} {link.mtu}" for link in uplinks)
    if least < LEAST_MTU:
        name = next(link.name for link in uplinks if link.mtu == least)
        return [Finding("mtu", Verdict.WARN, f"{shown}: less than {LEAST_MTU}", f"ip link set {name} mtu 1500")]
    larger = [link for link in hops.links() if link.up and not link.loopback and link.index not in towards]
    larger = [link for link in larger if link.mtu > least]
    if larger:
        names = ", ".join(f"{link.name} {link.mtu}" for link in larger[:5])
        seen = f"{shown}, but {names}: larger packets of pods are dropped or cut"
        return [Finding("mtu", Verdict.WARN, seen, f"set the pods' MTU to {least} (Calico: spec.calicoNetwork.mtu)")]
    return [Finding("mtu", Verdict.OK, shown)]


async def strangers(context: Context) -> Iterable[Finding]:
    """Routes of others inside the pools: two daemons that route the same pods."""
    name = "other daemons"
    if context.config is None:
        return no_config(name)
    if context.kernel is None:
        return [Finding(name, Verdict.SKIP, f"the kernel cannot be read: {context.kernel_problem}")]
    if not context.config.pools:
        return [Finding(name, Verdict.SKIP, "no pools are set")]
    by: dict[int, list[KernelRoute]] = defaultdict(list)
    local = 0
    for route in context.kernel.strangers:
        if _remote(route):
            by[route.protocol].append(route)
        else:
            local += 1
    if not by:
        return [Finding(name, Verdict.OK, f"no routes inside the pools but {local} to local pods")]
    return [_others(context, protocol, found) for protocol, found in sorted(by.items())]


def _remote(route: KernelRoute) -> bool:
    """Does a route lead to another machine; what has no gateway is a pod or a block of this one."""
    return isinstance(route.target, Unicast) and any(hop.gateway is not None for hop in route.target.hops)


def _others(context: Context, protocol: int, found: list[KernelRoute]) -> Finding:
    who = f"{PROTOCOLS.get(protocol, 'somebody')} (protocol {protocol})"
    metric = context.config.kernel.metric if context.config else 0
    wins = sum(route.metric <= metric for route in found)
    seen = f"{who} has {len(found)} routes inside the pools, such as {prefix_text(found[0].prefix)}"
    seen += f"; {wins} have a metric that wins over ours, so theirs forward" if wins else "; ours win"
    remedy = f"turn its routing off once ours is trusted, then `ip route flush proto {protocol}`"
    return Finding("other daemons", Verdict.WARN, seen, remedy)
