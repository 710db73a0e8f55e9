"""ExaBGP's configuration for one peer, complete, and the environment it runs in.

One file a peer, never a template and never a reload: for scalars ExaBGP lets a template win over the neighbor's own
line, and one failed reload spoils all later ones. Every text that goes in here was checked by
:class:`~bgp_agent.speaker.definition.PeerDefinition`; the password goes in as base64, whatever it holds.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bgp_agent.speaker.definition import PeerDefinition

PACKAGE: Final = Path(__file__).resolve().parent.parent
#: Characters that would end a word of ExaBGP's configuration.
_SPECIAL: Final = frozenset(" \t\n;{}[]()#\"'\\")


class ConfigError(Exception):
    """No configuration can be written for this peer; the message says why and what to do."""


def assets() -> Path:
    """The folder with what ExaBGP runs: in the installed package, else beside it in a source tree."""
    installed = PACKAGE / "_exabgp"
    return installed if installed.is_dir() else PACKAGE.parent / "exabgp"


def command(config: Path) -> list[str]:
    """The argument list that runs one ExaBGP; in `ps` it reads ``... exabgp <peer address>.conf``."""
    return [sys.executable, "-I", str(assets() / "exabgp"), str(config)]


def environment(inherited: Mapping[str, str], user: str) -> dict[str, str]:
    """The environment of an ExaBGP that ``user`` runs: our settings file, nobody else's ``exabgp.*``."""
    kept = {name: inherited[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in inherited}
    kept.setdefault("PATH", os.defpath)
    return {
        **kept,
        "EXABGP_ENVFILE": str(assets() / "exabgp.env"),
        "exabgp.daemon.user": user,
        "BGP_AGENT_HOST": str(os.getpid()),
    }


def file_name(address: str) -> str:
    """The name of a peer's configuration file; the address of an IPv6 peer stays readable."""
    return f"{address}.conf"


def text(peer: PeerDefinition, handover: Path, token: str, *, listen: int | None = None) -> str:
    """The whole configuration.

    ``handover``: the socket on which the host waits for the helper that knows ``token``. ``listen``: the port on which
    a passive peer's ExaBGP waits. Raises :class:`ConfigError`.
    """
    helper = [sys.executable, "-I", "-S", str(assets() / "handover.py"), str(handover), token]
    for word in helper:
        if _SPECIAL & set(word):
            raise ConfigError(f"ExaBGP's configuration cannot hold the path {word!r}: move it where no blank is in it")
    lines = [
        # the process first: whatever fails after it cannot take the helper away
        f"process agent {{ run {' '.join(helper)}; encoder json; }}",
        f"neighbor {peer.address} {{",
        *(f"    {line}" for line in _neighbor(peer, listen)),
        "}",
        "",
    ]
    return "\n".join(lines)


def _neighbor(peer: PeerDefinition, listen: int | None) -> list[str]:
    lines = [
        f"local-address {peer.local_address or 'auto'};",
        f"router-id {peer.router_id};",
        f"local-as {peer.local_asn};",
        f"peer-as {peer.asn};",
        f"hold-time {peer.hold_time};",
        "adj-rib-in false;",
        "adj-rib-out true;",
        "group-updates true;",
        f"manual-eor {_boolean(bool(peer.graceful_restart))};",
    ]
    if peer.passive:
        lines += ["passive true;", *([f"listen {listen};"] if listen else [])]
    else:
        lines.append(f"connect {peer.port};")
    if peer.ttl_security is not None:
        lines += ["outgoing-ttl 255;", f"incoming-ttl {256 - peer.ttl_security};"]  # RFC 5082 section 3
    elif peer.multihop is not None:
        lines.append(f"outgoing-ttl {peer.multihop};")
    if peer.password is not None:
        key = base64.b64encode(peer.password.encode()).decode()
        lines += ["md5-base64 true;", f'md5-password "{key}";']
    families = " ".join(f"{family.value} unicast;" for family in peer.families)
    restart = f" graceful-restart {peer.graceful_restart};" if peer.graceful_restart else ""
    receive = "receive { parsed; update; open; notification; refresh; }"
    return [
        *lines,
        f"family {{ {families} }}",
        f"capability {{ asn4 enable; route-refresh enable; extended-message disable;{restart} }}",
        f"api speaker {{ processes [ agent ]; neighbor-changes; {receive} }}",
    ]


def _boolean(value: bool) -> str:
    return "true" if value else "false"
