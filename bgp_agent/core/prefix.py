"""Prefixes and addresses as packed bytes.

A RIB of 100,000 prefixes is mostly its keys, so a prefix is not an object with methods here: it is the address in
network order (4 or 16 bytes) followed by one byte of length. Such a key hashes fast, sorts in the order of the
addresses, tells its family by its size and is what netlink wants to be sent. Text is read once, at the edge, and made
again only where a person reads it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, NewType

Address = NewType("Address", bytes)
"""An IPv4 or IPv6 address: 4 or 16 bytes, network order."""

Prefix = NewType("Prefix", bytes)
"""An :data:`Address` with its host bits zero, and one byte of length: 5 or 17 bytes."""


class Family(Enum):
    """An address family; the value is the word that config, ExaBGP and people use."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @property
    def bits(self) -> int:
        """The length of a host route: 32 or 128."""
        return 32 if self is Family.IPV4 else 128


class PrefixError(ValueError):
    """A text that is no address or prefix; the message says what is wrong with it."""


_MASKS: Final = {
    size: [(1 << size * 8) - (1 << size * 8 - length) for length in range(size * 8 + 1)] for size in (4, 16)
}


def parse_address(text: str) -> Address:
    """Read an IPv4 or IPv6 address. Raises :class:`PrefixError`."""
    try:
        if ":" in text:
            return Address(socket.inet_pton(socket.AF_INET6, text))
        return Address(socket.inet_pton(socket.AF_INET, text))
    except (OSError, UnicodeEncodeError, ValueError):
        raise PrefixError(f"{text[:64]!r} is not an IPv4 or IPv6 address") from None


def parse_prefix(text: str) -> Prefix:
    """Read ``ADDRESS/LENGTH``; host bits must be zero. Raises :class:`PrefixError`."""
    head, slash, tail = text.partition("/")
    if not slash:
        raise PrefixError(f"{text[:64]!r} has no length: write it as ADDRESS/LENGTH")
    address = parse_address(head)
    if not (tail.isascii() and tail.isdecimal() and len(tail) <= 3 and int(tail) <= len(address) * 8):
        raise PrefixError(f"{text[:64]!r}: the length is not a number from 0 to {len(address) * 8}")
    length = int(tail)
    if int.from_bytes(address, "big") & ~_MASKS[len(address)][length]:
        raise PrefixError(f"{text[:64]!r} has host bits set; the prefix is {prefix_text(network(address, length))}")
    return Prefix(address + bytes((length,)))


def network(address: Address, length: int) -> Prefix:
    """The prefix of ``length`` that holds ``address``."""
    size = len(address)
    masked = int.from_bytes(address, "big") & _MASKS[size][length]
    return Prefix(masked.to_bytes(size, "big") + bytes((length,)))


def host(address: Address) -> Prefix:
    """The host route of an address: /32 or /128."""
    return Prefix(address + bytes((len(address) * 8,)))


def address_of(prefix: Prefix) -> Address:
    """The first address of a prefix."""
    return Address(prefix[:-1])


def length_of(prefix: Prefix) -> int:
    """The length of a prefix in bits."""
    return prefix[-1]


def is_host(prefix: Prefix) -> bool:
    """Is this a /32 or a /128."""
    return prefix[-1] == (len(prefix) - 1) * 8


def family_of(packed: Prefix | Address) -> Family:
    """The family of a packed prefix or address, by its size."""
    return Family.IPV4 if len(packed) <= 5 else Family.IPV6


def address_text(address: Address) -> str:
    """An address as people write it (RFC 5952 for IPv6)."""
    if len(address) == 4:
        return socket.inet_ntop(socket.AF_INET, address)
    return socket.inet_ntop(socket.AF_INET6, address)


def prefix_text(prefix: Prefix) -> str:
    """A prefix as people write it."""
    return f"{address_text(Address(prefix[:-1]))}/{prefix[-1]}"


def covers(outer: Prefix, inner: Prefix) -> bool:
    """Is ``inner`` equal to ``outer`` or more specific than it (same family)."""
    size = len(outer)
    if len(inner) != size or inner[-1] < outer[-1]:
        return False
    difference = int.from_bytes(outer[:-1], "big") ^ int.from_bytes(inner[:-1], "big")
    return not difference & _MASKS[size - 1][outer[-1]]


def overlaps(one: Prefix, other: Prefix) -> bool:
    """Does either prefix cover the other."""
    return covers(one, other) or covers(other, one)


class PrefixSet:
    """A small set of prefixes that answers "which of them covers this one" in one dictionary look-up a length.

    Made for pools, own blocks and refusals: a few lengths, any number of prefixes.
    """

    __slots__ = ("_levels", "_prefixes")

    def __init__(self, prefixes: Iterable[Prefix] = ()) -> None:
        self._prefixes = frozenset(prefixes)
        #: size of the key -> [(length, bits to shift away, {leading bits: member})], the longest length first
        self._levels: dict[int, list[tuple[int, int, dict[int, Prefix]]]] = {5: [], 17: []}
        for size, levels in self._levels.items():
            members = [p for p in self._prefixes if len(p) == size]
            for length in sorted({p[-1] for p in members}, reverse=True):
                shift = (size - 1) * 8 - length
                leading = {int.from_bytes(p[:-1], "big") >> shift: p for p in members if p[-1] == length}
                levels.append((length, shift, leading))

    def __contains__(self, prefix: object) -> bool:
        return prefix in self._prefixes

    def __iter__(self) -> Iterator[Prefix]:
        return iter(self._prefixes)

    def __len__(self) -> int:
        return len(self._prefixes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrefixSet) and self._prefixes == other._prefixes

    def __hash__(self) -> int:
        return hash(self._prefixes)

    def __repr__(self) -> str:
        return f"PrefixSet({', '.join(prefix_text(p) for p in sorted(self._prefixes))})"

    def longest(self, like: Prefix) -> int:
        """The longest length among the members of ``like``'s family; 0 when there is none."""
        levels = self._levels[len(like)]
        return levels[0][0] if levels else 0

    def covering(self, prefix: Prefix) -> Prefix | None:
        """The most specific member that covers ``prefix`` (itself included), or None."""
        levels = self._levels[len(prefix)]
        if not levels:
            return None
        own, value = prefix[-1], int.from_bytes(prefix[:-1], "big")
        for length, shift, leading in levels:
            if length <= own:
                found = leading.get(value >> shift)
                if found is not None:
                    return found
        return None

    def overlapping(self, others: Iterable[Prefix]) -> PrefixSet:
        """The members that overlap one of ``others``."""
        kept = list(others)
        return PrefixSet(p for p in self._prefixes if any(overlaps(p, other) for other in kept))
