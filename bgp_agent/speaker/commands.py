"""The commands that ExaBGP 5.0.15 takes, and its answers to ``show adj-rib out``, as values.

Commands are one line of ASCII text. ExaBGP finds the command by searching the line for its words, so free text never
enters one: what an :class:`Announcement` may hold is checked here before it becomes words. ExaBGP does not check it: a
next hop of the wrong family is acknowledged and sent malformed, a family that the neighbor lacks is acknowledged and
dropped.

A withdrawal repeats the attributes of what it withdraws. ExaBGP sorts what it has not sent yet by attributes, so that
an announcement, its withdrawal and the next announcement stay in their order only when all three carry the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from bgp_agent.core.prefix import (
    Address,
    Family,
    Prefix,
    PrefixError,
    address_text,
    family_of,
    parse_address,
    parse_prefix,
    prefix_text,
)
from bgp_agent.core.values import Announcement
from bgp_agent.speaker.definition import PeerDefinition

#: Prefixes in one line: with more, ExaBGP's queue gets deep and slow (10,300 prefixes/s at 50 a line, 3,000 at 1,000).
LINE: Final = 50
#: Own ASNs in one AS path: one segment has room for 255 (RFC 4271 section 4.3).
MAX_PREPEND: Final = 254
MAX_MED: Final = 4_294_967_295

#: RFC 1997, RFC 3765 and RFC 7999: ExaBGP prints these words in place of the numbers.
WELL_KNOWN: Final = {
    "no-export": "65535:65281",
    "no-advertise": "65535:65282",
    "no-export-subconfed": "65535:65283",
    "no-peer": "65535:65284",
    "blackhole": "65535:666",
}
_COMMUNITY: Final = re.compile(r"\d{1,5}:\d{1,5}", re.ASCII)
_LARGE: Final = re.compile(r"\d{1,10}:\d{1,10}:\d{1,10}", re.ASCII)
_ROUTE: Final = re.compile(
    r"neighbor \S+ local-ip (?P<local>\S+) .*?ipv[46] unicast (?P<prefix>\S+) next-hop (?P<hop>\S+)"
    r"(?: as-path (?P<path>\( [\d ]* \)))?(?: med (?P<med>\d+))?"
    r"(?: community (?P<community>\[ [^]]* \]|\S+))?(?: large-community (?P<large>\[ [^]]* \]|\S+))?(?P<rest> .*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Change:
    """Announce ``prefixes`` with ``attributes``, or withdraw them. None: with attributes that we never asked for."""

    line: bytes
    prefixes: tuple[Prefix, ...]
    attributes: Announcement | None
    withdraw: bool


@dataclass(frozen=True, slots=True)
class Show:
    """What does ExaBGP hold for the peer; answered with a line for each route, then ``done``."""

    line: bytes = b"show adj-rib out extensive\n"


@dataclass(frozen=True, slots=True)
class EndOfRibSent:
    """Send End-of-RIB for a family; ExaBGP answers ``error`` out of turn when the session is down."""

    line: bytes
    family: Family


@dataclass(frozen=True, slots=True)
class RefreshAsked:
    """Ask the peer for its table again; ExaBGP answers ``error`` out of turn when the session is down."""

    line: bytes
    family: Family


@dataclass(frozen=True, slots=True)
class Earlier:
    """A command of an earlier agent: nothing is sent, its answer is still to come and means nothing here."""

    line: bytes = b""


Command: TypeAlias = Change | Show | EndOfRibSent | RefreshAsked | Earlier


class Language:
    """The commands for one peer. ``local``: the session's own address once it is known."""

    def __init__(self, definition: PeerDefinition) -> None:
        self._definition = definition
        self._neighbor = f"neighbor {definition.address}"
        self.local = parse_address(definition.local_address) if definition.local_address else None

    # --- commands ----------------------------------------------------------------------------------------------------
    def announce(self, prefixes: Iterable[Prefix], attributes: Announcement) -> Change:
        """Announce prefixes of one family; each must have passed :meth:`refuse`."""
        return self._change("announce", tuple(prefixes), attributes)

    def withdraw(self, prefixes: Iterable[Prefix], attributes: Announcement | None) -> Change:
        """Withdraw prefixes of one family that were announced with ``attributes``."""
        return self._change("withdraw", tuple(prefixes), attributes)

    def end_of_rib(self, family: Family) -> EndOfRibSent:
        """RFC 4724 section 2."""
        return EndOfRibSent(f"{self._neighbor} announce eor {family.value} unicast\n".encode(), family)

    def refresh(self, family: Family) -> RefreshAsked:
        """RFC 2918; ExaBGP sends it whether it was negotiated or not."""
        return RefreshAsked(f"{self._neighbor} announce route-refresh {family.value} unicast\n".encode(), family)

    def _change(self, verb: str, prefixes: tuple[Prefix, ...], attributes: Announcement | None) -> Change:
        words = self._attributes(prefixes[0], attributes or Announcement())
        nlri = " ".join(map(prefix_text, prefixes))
        line = f"{self._neighbor} {verb} attributes {words} nlri {nlri}\n".encode("ascii")
        return Change(line, prefixes, attributes, verb == "withdraw")

    def _attributes(self, prefix: Prefix, attributes: Announcement) -> str:
        words = f"next-hop {self._next_hop(prefix, attributes)}"
        if attributes.med is not None:
            words += f" med {attributes.med}"
        if plain := [community for community in attributes.communities if community.count(":") == 1]:
            words += f" community [ {' '.join(plain)} ]"
        if large := [community for community in attributes.communities if community.count(":") == 2]:
            words += f" large-community [ {' '.join(large)} ]"
        if attributes.prepend:
            words += f" as-path [ {' '.join([str(self._definition.local_asn)] * self._path_length(attributes))} ]"
        return words

    def _next_hop(self, prefix: Prefix, attributes: Announcement) -> str:
        if attributes.next_hop is not None:
            return address_text(attributes.next_hop)
        if family_of(prefix) is self._definition.family:
            return "self"
        return "::" if family_of(prefix) is Family.IPV6 else "0.0.0.0"  # noqa: S104 - a withdrawal needs some word

    def _path_length(self, attributes: Announcement) -> int:
        """An explicit path replaces the one that ExaBGP makes, which to an external peer holds the own ASN once."""
        return attributes.prepend + (self._definition.asn != self._definition.local_asn)

    # --- what may become a command -----------------------------------------------------------------------------------
    def canonical(self, attributes: Announcement) -> Announcement:
        """Equal for announcements that look alike to the peer: own address None, communities sorted numbers."""
        next_hop = None if attributes.next_hop == self.local else attributes.next_hop
        if next_hop is attributes.next_hop and not attributes.communities:
            return attributes
        return replace(attributes, next_hop=next_hop, communities=_sorted(attributes.communities))

    def refuse(self, prefix: Prefix, attributes: Announcement) -> str | None:
        """Why this cannot be announced to this peer; None when it can."""
        family = family_of(prefix)
        if family not in self._definition.families:
            return f"the session with {self._definition.address} is not configured for {family.value}"
        if attributes.next_hop is None and family is not self._definition.family:
            return f"{family.value} over an {self._definition.family.value} session needs a next hop of its own"
        if attributes.next_hop is not None and family_of(attributes.next_hop) is not family:
            return f"the next hop {address_text(attributes.next_hop)} is not {family.value}"
        if attributes.med is not None and not 0 <= attributes.med <= MAX_MED:
            return f"med {attributes.med} is not a number from 0 to {MAX_MED}"
        if not 0 <= attributes.prepend <= MAX_PREPEND:
            return f"prepend {attributes.prepend} is not a number from 0 to {MAX_PREPEND}"
        wrong = next((text for text in attributes.communities if _community(text) is None), None)
        return None if wrong is None else f"{wrong[:64]!r} is not a community like 64512:10 or 64512:1:2"

    # --- answers -----------------------------------------------------------------------------------------------------
    def read_route(self, line: str) -> tuple[Prefix, Announcement | None] | None:
        """One line of the answer to :class:`Show`. Attributes that no announcement of ours has: None for them."""
        read = _ROUTE.fullmatch(line)
        if read is None:
            return None
        try:
            prefix, next_hop = parse_prefix(read["prefix"]), parse_address(read["hop"])
        except PrefixError:
            return None
        if self.local is None:
            self.local = address_or_none(read["local"])
        return prefix, self._read_attributes(read, next_hop)

    def _read_attributes(self, read: re.Match[str], next_hop: Address) -> Announcement | None:
        path = (read["path"] or "").strip("( )").split()
        prepend = len(path) - (self._definition.asn != self._definition.local_asn) if path else 0
        own = all(asn == str(self._definition.local_asn) for asn in path)
        if read["rest"] or prepend < 0 or not own or (path and not prepend):
            return None
        return Announcement(
            None if next_hop == self.local else next_hop,
            int(read["med"]) if read["med"] else None,
            _sorted((*_words(read["community"]), *_words(read["large"]))),
            prepend,
        )


def address_or_none(text: str) -> Address | None:
    """ExaBGP writes ``auto`` and the like where it does not know an address yet."""
    try:
        return parse_address(text)
    except PrefixError:
        return None


def _words(text: str | None) -> list[str]:
    return (text or "").strip("[ ]").split()


def _community(text: str) -> tuple[int, ...] | None:
    """RFC 1997 (2 x 16 bits) or RFC 8092 (3 x 32 bits)."""
    text = WELL_KNOWN.get(text, text)
    parts = tuple(map(int, text.split(":"))) if _COMMUNITY.fullmatch(text) or _LARGE.fullmatch(text) else ()
    limit = 0xFFFF if len(parts) == 2 else 0xFFFFFFFF
    return parts if parts and all(part <= limit for part in parts) else None


def _sorted(communities: Iterable[str]) -> tuple[str, ...]:
    """Plain ones first, each once, in the order of their numbers; what is no community stays and is refused later."""
    known = {_community(text) or (): text for text in communities}
    if () in known:
        return tuple(communities)
    return tuple(":".join(map(str, parts)) for parts in sorted(known, key=lambda parts: (len(parts), parts)))
