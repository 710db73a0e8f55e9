"""What the host must know of a peer to run its ExaBGP: complete, validated, comparable by a fingerprint.

Definitions come from the agent over the socket and from the file that the host keeps, so they are read here as hostile
input: a text that is no address never reaches ExaBGP's configuration.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from bgp_agent.core.prefix import Address, Family, PrefixError, address_text, family_of, parse_address

#: TCP_MD5SIG_MAXKEYLEN of linux/tcp.h, in bytes (RFC 2385 leaves it open).
MAX_PASSWORD: Final = 80
MAX_ASN: Final = 4_294_967_295
#: What ExaBGP puts on the wire for the restart time, in seconds (RFC 4724 section 3: 12 bits).
MAX_RESTART_TIME: Final = 4095


class DefinitionError(ValueError):
    """A peer definition that cannot be used; the message names the field and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PeerDefinition:
    """One peer, as its ExaBGP shall be configured. A changed :attr:`fingerprint` means that this ExaBGP starts again.

    ``local_address`` None: the system chooses it towards the peer. ``multihop``: the TTL of what is sent, None for the
    kernel's. ``ttl_security``: the number of hops the peer may be away at most (RFC 5082), None off. Times are seconds;
    ``graceful_restart`` 0 and ``hold_time`` 0 turn the thing off. ``password`` None: no TCP-MD5, or, where the peer is
    ``keyed``, a key that could not be read. ``problem``: why this peer must stay down though it is configured (its
    password file is missing, ...).
    Raises :class:`DefinitionError`.
    """

    address: str
    asn: int
    local_asn: int
    router_id: str
    local_address: str | None = None
    port: int = 179
    multihop: int | None = None
    ttl_security: int | None = None
    passive: bool = False
    keyed: bool = False
    password: str | None = field(default=None, repr=False)
    families: tuple[Family, ...] = (Family.IPV4,)
    hold_time: int = 30
    graceful_restart: int = 120
    problem: str | None = None

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            if (wrong := check(getattr(self, name))) is not None:
                shown = "" if name == "password" else f" {getattr(self, name)!r:.60}"
                raise DefinitionError(f"peer {self.address!r:.60}: {name}{shown} {wrong}")
        if self.local_address and family_of(parse_address(self.local_address)) is not self.family:
            raise DefinitionError(f"peer {self.address}: local_address {self.local_address} is of the other family")

    @property
    def packed(self) -> Address:
        """The peer's address, packed."""
        return parse_address(self.address)

    @property
    def family(self) -> Family:
        """The family of the session's own addresses."""
        return family_of(parse_address(self.address))

    @property
    def fingerprint(self) -> str:
        """Equal for equal definitions, and as good as never otherwise: what it is without its key, then all of it.

        Checksums, no hash: they protect nothing, they tell two definitions apart, and the host needs no OpenSSL.
        """
        whole = self.to_json()
        bare = {name: value for name, value in whole.items() if name not in {"password", "problem"}}
        return f"{_checksum(bare)}-{'key' if self.password else 'bare'}-{_checksum(whole)}"

    def fits(self, fingerprint: str | None) -> bool:
        """Does an ExaBGP that runs with this ``fingerprint`` do what is wanted.

        A key that cannot be read is no other key: the session that stands on the one that could be read goes on.
        """
        if self.keyed and self.password is None and fingerprint is not None:
            bare, _, rest = fingerprint.partition("-")
            if rest.startswith("key") and bare == self.fingerprint.partition("-")[0]:
                return True
        return fingerprint == self.fingerprint

    def to_json(self) -> dict[str, object]:
        """As the socket and the host's file carry it, with the password: never for a log."""
        return {**asdict(self), "families": [family.value for family in self.families]}

    @classmethod
    def from_json(cls, raw: object) -> PeerDefinition:
        """Read what :meth:`to_json` made. Raises :class:`DefinitionError`."""
        if not isinstance(raw, Mapping):
            raise DefinitionError(f"a peer definition is an object, not {type(raw).__name__}")
        if unknown := set(raw) - set(_CHECKS):
            raise DefinitionError(f"unknown keys in a peer definition: {', '.join(sorted(map(str, unknown)))[:200]}")
        if missing := {"address", "asn", "local_asn", "router_id"} - set(raw):
            raise DefinitionError(f"a peer definition lacks {', '.join(sorted(missing))}")
        values = dict(raw)
        if "families" in values:
            values["families"] = _families(values["families"])
        return cls(**values)


def _checksum(values: Mapping[str, object]) -> str:
    canonical = json.dumps(values, sort_keys=True).encode()
    return f"{zlib.crc32(canonical):08x}{zlib.adler32(canonical):08x}"


def _families(raw: object) -> tuple[Family, ...]:
    words = raw if isinstance(raw, list | tuple) else ()
    found = tuple(family for family in Family if family.value in words)
    if not found or len(found) != len(words):
        raise DefinitionError(f"families {raw!r:.60} is not a list of ipv4 and ipv6")
    return found


def _address(value: object) -> str | None:
    try:
        canonical = isinstance(value, str) and address_text(parse_address(value)) == value
    except PrefixError:
        canonical = False
    return None if canonical else "is not an address in canonical form"


def _router_id(value: object) -> str | None:
    return None if _address(value) is None and ":" not in str(value) and value != "0.0.0.0" else (  # noqa: S104
        "is not a router id: four numbers like an IPv4 address, not all zero"
    )  # fmt: skip


def _number(low: int, high: int) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"is not a number from {low} to {high}"

    return check


def _optional(check: Callable[[object], str | None]) -> Callable[[object], str | None]:
    return lambda value: None if value is None else check(value)


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "is not true or false"


def _password(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return "is empty; without TCP-MD5 leave it out"
    if len(value.encode("utf-8", "surrogateescape")) > MAX_PASSWORD:
        return f"is longer than {MAX_PASSWORD} bytes, the most that TCP-MD5 takes"
    if not value.isascii() or not value.isprintable():
        return "holds something else than printable ASCII characters"
    return None


def _text(value: object) -> str | None:
    return None if isinstance(value, str) and value else "is not a text"


def _hold_time(value: object) -> str | None:
    return None if value == 0 else _number(3, 65535)(value)


def _family_tuple(value: object) -> str | None:
    members = value if isinstance(value, tuple) else ()
    good = members and all(isinstance(family, Family) for family in members) and len(set(members)) == len(members)
    return None if good else "is not a tuple of families"


#: Field -> what is wrong with a value, None when it is fine (RFC 4271 section 4.2 for the hold time).
_CHECKS: Final[dict[str, Callable[[object], str | None]]] = {
    "address": _address,
    "asn": _number(1, MAX_ASN),
    "local_asn": _number(1, MAX_ASN),
    "router_id": _router_id,
    "local_address": _optional(_address),
    "port": _number(1, 65535),
    "multihop": _optional(_number(1, 255)),
    "ttl_security": _optional(_number(1, 254)),
    "passive": _boolean,
    "keyed": _boolean,
    "password": _optional(_password),
    "families": _family_tuple,
    "hold_time": _hold_time,
    "graceful_restart": _number(0, MAX_RESTART_TIME),
    "problem": _optional(_text),
}
