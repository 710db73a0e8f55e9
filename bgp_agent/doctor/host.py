"""The usual causes at night that are neither BGP's nor Azure's: masquerading, a wrong source address, networkd."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bgp_agent.core.prefix import Prefix, PrefixError, address_text, covers, parse_address, parse_prefix, prefix_text
from bgp_agent.doctor.checks import Context, no_config
from bgp_agent.doctor.findings import Finding, Verdict

PATIENCE: Final = 5.0
"""Seconds that a program has to list the rules."""
_KEYS: Final = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")
_SOURCE: Final = re.compile(r"(! )?(?:-s|--source) (\S+)")
_DESTINATION: Final = re.compile(r"(! )?(?:-d|--destination) (\S+)")
_NFT_SOURCE: Final = re.compile(r"\bip6? saddr (!= )?(\S+)")
_NFT_DESTINATION: Final = re.compile(r"\bip6? daddr (!= )?(\S+)")


# --- masquerading ----------------------------------------------------------------------------------------------------
async def masquerading(context: Context) -> Iterable[Finding]:
    """Do pods reach the Internet, and keep their own address among each other."""
    name, config = "masquerading", context.config
    if config is None:
        return no_config(name)
    if not config.pools:
        return [Finding(name, Verdict.SKIP, "no pools are set")]
    saved, listed = await asyncio.gather(_said("iptables-save", "-t", "nat"), _said("nft", "list", "ruleset"))
    if saved is None and listed is None:
        seen = "neither iptables-save nor nft lists rules here: are you root?"
        return [Finding(name, Verdict.SKIP, seen, "iptables-save -t nat | grep MASQUERADE")]
    pools = [parse_prefix(str(each)) for each in config.pools]
    cloud = config.azure is not None
    return [judge_masquerade(each, saved or "", listed or "", cloud=cloud) for each in pools if len(each) == 5]


async def _said(*words: str) -> str | None:
    """What a program prints; None where it is not there or fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return out.decode(errors="replace") if process.returncode == 0 else None


def judge_masquerade(pool: Prefix, saved: str, listed: str, *, cloud: bool) -> Finding:
    """``saved``: of ``iptables-save -t nat``; ``listed``: of ``nft list ruleset``."""
    found = [*_iptables(pool, saved), *_nft(pool, listed)]
    text = prefix_text(pool)
    among = [rule for rule, kept in found if not kept]
    if among:
        seen = f"{text} is masqueraded towards other pods, too, which then see the node's address: {among[0]}"
        remedy = f"leave the pods' range out of that rule: `! -d {text}` (Calico: natOutgoing does)"
        return Finding("masquerading", Verdict.WARN, seen, remedy)
    if found:
        return Finding("masquerading", Verdict.OK, f"{text} is masqueraded, and not towards pods")
    if cloud:
        seen = f"nothing here masquerades {text}: Azure translates no pod's address, so pods have no Internet"
        remedy = f"Calico: natOutgoing: true; else `iptables -t nat -A POSTROUTING -s {text} ! -d {text} -j MASQUERADE`"
        return Finding("masquerading", Verdict.WARN, seen, remedy)
    return Finding("masquerading", Verdict.OK, f"nothing here masquerades {text}")


def _iptables(pool: Prefix, saved: str) -> Iterable[tuple[str, bool]]:
    """Rules that masquerade the pool; True when packets to the pool are left out."""
    left: dict[str, bool] = defaultdict(bool)  # chain -> packets to the pool have left it
    for line in saved.splitlines():
        words = line.split()
        if words[:1] != ["-A"] or len(words) < 3:
            continue
        chain = words[1]
        sets = "--match-set" in line
        source, destination = _SOURCE.search(line), _DESTINATION.search(line)
        if re.search(r"-j (RETURN|ACCEPT)\b", line):
            left[chain] |= destination is not None and not destination[1] and _covers(destination[2], pool)
        if not re.search(r"-j (MASQUERADE|SNAT)\b", line) or "--mark" in line or chain.startswith("KUBE-"):
            continue
        if source is not None and bool(source[1]) == _covers(source[2], pool):
            continue
        kept = left[chain] or (sets and bool(re.search(r"! --match-set \S+ dst", line)))
        if destination is not None:
            kept |= bool(destination[1]) == _covers(destination[2], pool)
        yield line, kept


def _nft(pool: Prefix, listed: str) -> Iterable[tuple[str, bool]]:
    """The same for rules of nftables' own; tables that iptables manages are seen by iptables-save."""
    skip = False
    for line in listed.splitlines():
        if "managed by iptables-nft" in line:
            skip = True
        elif line.startswith("}"):
            skip = False
        if skip or not re.search(r"\b(masquerade|snat)\b", line) or "mark" in line or "type nat" in line:
            continue
        source, destination = _NFT_SOURCE.search(line), _NFT_DESTINATION.search(line)
        if source is not None and not source[2].startswith(("@", "{")) and bool(source[1]) == _covers(source[2], pool):
            continue
        kept = destination is not None and bool(destination[1]) == _covers(destination[2], pool)
        kept |= destination is not None and destination[2].startswith(("@", "{")) and bool(destination[1])
        yield line.strip(), kept


def _covers(text: str, pool: Prefix) -> bool:
    try:
        return covers(parse_prefix(text if "/" in text else f"{text}/{128 if ':' in text else 32}"), pool)
    except PrefixError:
        return False


# --- several interfaces ----------------------------------------------------------------------------------------------
async def source_addresses(context: Context) -> Iterable[Finding]:
    """With several interfaces or addresses: do packets to the peers leave with the address that the peers expect."""
    name, config = "source address", context.config
    if config is None:
        return no_config(name)
    notes = context.cloud.found.notes if context.cloud is not None else ()
    chosen = [each for each in notes if "node.address chooses" in each]
    found = [Finding(name, Verdict.WARN, each, "write it down: node.address in the config") for each in chosen]
    own = config.node.address
    if own is None or not config.bgp.peers:
        return found or [Finding(name, Verdict.SKIP, "needs node.address and peers")]
    wrong = {each.address: used for each in config.bgp.peers if (used := _used(each.address)) not in {own, None}}
    for peer, used in wrong.items():
        seen = f"packets to {peer} leave with {used}, but the peer expects {own}: it answers no session"
        found.append(Finding(name, Verdict.FAIL, seen, f"ip route replace {peer} src {own}, by the right device"))
    return found or [Finding(name, Verdict.OK, f"{own} towards every peer that has a route")]


def _used(peer: str) -> str | None:
    """The address that the kernel chooses towards a peer; nothing is sent."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with contextlib.suppress(OSError, PrefixError), socket.socket(family, socket.SOCK_DGRAM) as one:
        one.connect((peer, 179))
        return address_text(parse_address(one.getsockname()[0]))
    return None


# --- systemd-networkd ------------------------------------------------------------------------------------------------
async def networkd(context: Context) -> Iterable[Finding]:
    """systemd-networkd takes out routes that it did not make, unless told otherwise (networkd.conf(5))."""
    name = "networkd"
    if not any(each.name == "systemd-networkd" for each in context.machine.processes()):
        return [Finding(name, Verdict.OK, "systemd-networkd does not run here")]
    return [judge_networkd(networkd_files(Path("/")))]


def networkd_files(root: Path) -> list[str]:
    """networkd.conf and its drop-ins, as they count; one of /etc hides its namesakes."""
    drop_ins: dict[str, Path] = {}
    for folder in ("usr/lib", "usr/local/lib", "run", "etc"):
        for path in (root / folder / "systemd/networkd.conf.d").glob("*.conf"):
            drop_ins[path.name] = path
    found = []
    for path in (root / "etc/systemd/networkd.conf", *(drop_ins[each] for each in sorted(drop_ins))):
        with contextlib.suppress(OSError):
            found.append(path.read_text(errors="replace"))
    return found


def judge_networkd(texts: Iterable[str]) -> Finding:
    """The last setting of a key counts; the default is yes."""
    values = dict.fromkeys(_KEYS, "yes")
    for text in texts:
        for line in text.splitlines():
            key, _, value = line.partition("=")
            if key.strip() in values:
                values[key.strip()] = value.strip().lower() or "yes"
    managed = [key for key, value in values.items() if value not in {"no", "false", "off", "0", "n", "f"}]
    if not managed:
        return Finding("networkd", Verdict.OK, "leaves foreign routes and rules alone")
    seen = "takes out the agent's routes when it restarts or a link comes back, until the agent puts them back"
    lines = "\\n".join(f"{key}=no" for key in managed)
    remedy = (
        "mkdir -p /etc/systemd/networkd.conf.d && "
        f"printf '[Network]\\n{lines}\\n' >/etc/systemd/networkd.conf.d/bgp-agent.conf && "
        "systemctl restart systemd-networkd"
    )
    return Finding("networkd", Verdict.WARN, seen, remedy)
