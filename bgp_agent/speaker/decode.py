"""ExaBGP's JSON lines as values: one line in, at most one value out.

The peer decides what these lines hold, so nothing in them is trusted: what is wrong with attributes ends up in
:attr:`Path.error` (RFC 7606: the route is refused, the session stays), what is wrong with one NLRI in
:attr:`Update.malformed`, and only a line that makes no sense at all raises :class:`LineError`.

ExaBGP 5.0.15 checks next to nothing itself: a missing ORIGIN, AS_PATH or NEXT_HOP reaches us as a missing key or as
the next hop ``no-nexthop``; an empty AS_PATH looks like a missing one; an invalid ORIGIN is the text ``invalid``.

The hot path is a full table: hundreds of prefixes a line, few distinct attributes. The attributes' own bytes are the
key under which their :class:`Path` is remembered, so that equal attributes are decoded once and are one object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

import msgspec

from bgp_agent.core.prefix import Address, Family, Prefix, network
from bgp_agent.core.values import EndOfRib, Notified, Path, RefreshBegin, RefreshEnd, Update
from bgp_agent.speaker.commands import address_or_none
from bgp_agent.speaker.definition import PeerDefinition

#: How many texts of attributes are remembered at once; the paths themselves live as long as somebody uses them.
REMEMBERED: Final = 4096
#: Texts from a peer are cut to this many characters before they go anywhere.
TEXT: Final = 512


class LineError(ValueError):
    """A line that ExaBGP cannot have meant; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PeerOpen:
    """What the peer's OPEN and our own settle (RFC 4271 section 4.2, RFC 5492). ``local``: our end's address."""

    families: frozenset[Family]
    hold_time: int
    refresh: str  # "enhanced", "plain" or "none", as in SessionUp
    graceful_restart: bool
    local: Address | None


@dataclass(frozen=True, slots=True)
class SessionState:
    """ExaBGP says that the session is up, or that it or an attempt at it ended. ``at``: seconds since the epoch."""

    up: bool
    reason: str
    at: float


Decoded: TypeAlias = PeerOpen | SessionState | Update | EndOfRib | RefreshBegin | RefreshEnd | Notified


# --- the shapes of the lines: only what is used, and raw where a bad value must not cost the whole line ---------------
class _Nlri(msgspec.Struct, gc=False):
    nlri: str


class _Family(msgspec.Struct, gc=False):
    afi: str
    safi: str
    subtype: str = ""


class _Body(msgspec.Struct, gc=False):
    attribute: msgspec.Raw = msgspec.Raw()
    announce: dict[str, dict[str, list[str | _Nlri]]] = {}
    withdraw: dict[str, list[str | _Nlri]] = {}


class _Message(msgspec.Struct, gc=False):
    update: _Body | None = None
    eor: _Family | None = None


class _Addresses(msgspec.Struct, gc=False):
    local: str | None = None


class _Notification(msgspec.Struct, gc=False):
    code: int
    subcode: int
    message: str = ""


class _Neighbor(msgspec.Struct, gc=False, rename={"route_refresh": "route-refresh"}):
    direction: str = "receive"
    state: str = ""
    reason: str = ""
    message: _Message | None = None
    open: msgspec.Raw = msgspec.Raw()
    address: _Addresses | None = None
    notification: _Notification | None = None
    route_refresh: _Family | None = None


class _Line(msgspec.Struct, gc=False):
    type: str
    time: float = 0.0
    neighbor: _Neighbor | None = None


class _Capability(msgspec.Struct, gc=False):
    families: list[str] = []


class _Open(msgspec.Struct, gc=False):
    hold_time: int
    capabilities: dict[str, msgspec.Raw] = {}


class _Segment(msgspec.Struct, gc=False):
    value: list[int]


class _Attributes(
    msgspec.Struct, gc=False,
    rename={"as_path": "as-path", "local_preference": "local-preference", "large_community": "large-community"},
):  # fmt: skip
    origin: str | None = None
    as_path: dict[str, _Segment] | None = None
    med: int | None = None
    local_preference: int | None = None
    community: list[tuple[int, int]] = []
    large_community: list[tuple[int, int, int]] = []
    error: str | None = None


_LINE: Final = msgspec.json.Decoder(_Line)
_OPEN: Final = msgspec.json.Decoder(_Open)
_CAPABILITY: Final = msgspec.json.Decoder(_Capability)
_ATTRIBUTES: Final = msgspec.json.Decoder(_Attributes)
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_FAMILIES: Final = {f"{family.value} unicast": family for family in Family}
_ORIGINS: Final = {"igp": 0, "egp": 1, "incomplete": 2}
#: Text of a length -> its byte and the host bits that must be zero, for each family.
_LENGTHS: Final = {
    family: {str(length): (bytes((length,)), (1 << family.bits - length) - 1) for length in range(family.bits + 1)}
    for family in Family
}
_SOCKET_FAMILY: Final = {Family.IPV4: AF_INET, Family.IPV6: AF_INET6}


class Decoder:
    """Reads the lines of one peer's ExaBGP. It remembers nothing but attributes."""

    def __init__(self, definition: PeerDefinition) -> None:
        self._definition = definition
        self._peer = definition.address
        self._external = definition.asn != definition.local_asn
        self._seen: dict[tuple[bytes, str], Path] = {}
        self._paths: WeakValueDictionary[tuple[object, ...], Path] = WeakValueDictionary()

    def decode(self, line: bytes) -> Decoded | None:
        """The value of a line; None when it says nothing that matters here. Raises :class:`LineError`."""
        try:
            read = _LINE.decode(line)
        except _BAD as error:
            return self._salvage(line, error)
        neighbor = read.neighbor
        if neighbor is None:
            return None
        if neighbor.direction != "receive":  # what we sent: of it only a NOTIFICATION is news
            return self._notified(neighbor)
        match read.type:
            case "update":
                return self._message(neighbor.message)
            case "state":
                known = neighbor.state in {"up", "down"}  # "connected" is said of refused connections too
                return SessionState(neighbor.state == "up", neighbor.reason[:TEXT], read.time) if known else None
        return self._rare(read.type, neighbor)

    def _rare(self, kind: str, neighbor: _Neighbor) -> Decoded | None:
        if kind == "open":
            return self._open(neighbor)
        return self._notified(neighbor) if kind == "notification" else self._refresh(neighbor.route_refresh)

    def _notified(self, neighbor: _Neighbor) -> Notified | None:
        if (told := neighbor.notification) is None:
            return None
        return Notified(self._peer, neighbor.direction != "receive", told.code, told.subcode, told.message[:TEXT])

    def _refresh(self, told: _Family | None) -> RefreshBegin | RefreshEnd | None:
        family = _FAMILIES.get(f"{told.afi} {told.safi}") if told else None
        if told is None or family is None:
            return None
        if told.subtype == "begin":
            return RefreshBegin(self._peer, family)
        return RefreshEnd(self._peer, family) if told.subtype == "end" else None

    # --- OPEN --------------------------------------------------------------------------------------------------------
    def _open(self, neighbor: _Neighbor) -> PeerOpen:
        """RFC 4760 section 8: only families that both ends offered; ExaBGP gives none to a peer that offers none."""
        try:
            told = _OPEN.decode(neighbor.open)
            # 1 multiprotocol, 2 route refresh, 64 graceful restart, 70 enhanced route refresh (IANA)
            offered = _CAPABILITY.decode(told.capabilities["1"]).families if "1" in told.capabilities else []
        except _BAD as error:
            raise LineError(f"an OPEN that cannot be read: {error}") from None
        ours = self._definition
        refresh = "none" if "2" not in told.capabilities else "enhanced" if "70" in told.capabilities else "plain"
        return PeerOpen(
            families=frozenset(family for family in ours.families if f"{family.value}/unicast" in offered),
            hold_time=min(told.hold_time, ours.hold_time),
            refresh=refresh,
            graceful_restart=bool(ours.graceful_restart) and "64" in told.capabilities,
            local=address_or_none(neighbor.address.local) if neighbor.address and neighbor.address.local else None,
        )

    # --- UPDATE ------------------------------------------------------------------------------------------------------
    def _message(self, message: _Message | None) -> Update | EndOfRib | None:
        if message is None:
            return None
        if message.eor is not None:
            family = _FAMILIES.get(f"{message.eor.afi} {message.eor.safi}")
            return None if family is None else EndOfRib(self._peer, family)
        return None if message.update is None else self._update(message.update)

    def _update(self, body: _Body) -> Update | None:
        malformed: list[tuple[str, str]] = []
        withdrawn: list[Prefix] = []
        announced: list[tuple[Path, tuple[Prefix, ...]]] = []
        for name, items in body.withdraw.items():
            if (family := _FAMILIES.get(name)) is not None:
                withdrawn += _prefixes(family, items, malformed)
        attributes = bytes(body.attribute) if body.announce else b""
        for name, hops in body.announce.items():
            if (family := _FAMILIES.get(name)) is None:
                continue
            by_hop = {hop: _prefixes(family, items, malformed) for hop, items in hops.items()}
            if len(by_hop) > 1:
                _prefer_global(by_hop)
            announced += [(self._path(attributes, hop), prefixes) for hop, prefixes in by_hop.items() if prefixes]
        if not (withdrawn or announced or malformed):
            return None
        return Update(self._peer, tuple(withdrawn), tuple(announced), tuple(malformed))

    def _path(self, attributes: bytes, hop: str) -> Path:
        key = (attributes, hop)
        path = self._seen.get(key)
        if path is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            path = self._seen[key] = self._intern(attributes, hop)
        return path

    def _intern(self, raw: bytes, hop: str) -> Path:
        """Attributes that only differ in what is not read here are one path too."""
        unreadable = None
        try:
            read = _ATTRIBUTES.decode(raw or b"{}")
        except _BAD as why:
            read, unreadable = _Attributes(), f"attributes that cannot be read: {why}"[:TEXT]
        next_hop = address_or_none(hop)
        as_path = _flat(read.as_path or {})
        origin = _ORIGINS.get(read.origin or "", 2)
        communities = (*(f"{a}:{b}" for a, b in read.community), *(f"{a}:{b}:{c}" for a, b, c in read.large_community))
        error = unreadable or self._wrong(read, next_hop, as_path)
        key = (next_hop, as_path, origin, read.med, read.local_preference, communities, error)
        path = self._paths.get(key)
        if path is None:
            path = self._paths[key] = Path(self._peer, *key)
        return path

    def _wrong(self, read: _Attributes, next_hop: Address | None, as_path: tuple[int, ...]) -> str | None:
        """RFC 7606 section 3 (d) and section 7: what makes a route with these attributes unusable."""
        if read.error is not None and read.error.startswith("treat-as-withdraw"):
            return f"malformed attributes ({read.error[:TEXT]}, RFC 7606)"
        if next_hop is None:
            return "no next hop (RFC 7606 section 3)"
        if read.origin is None:
            return "no ORIGIN (RFC 7606 section 3)"
        if read.origin not in _ORIGINS:
            return "ORIGIN is none of IGP, EGP and incomplete (RFC 7606 section 7.1)"
        if self._external and not as_path:
            return "no AS_PATH, or an empty one from an external peer (RFC 7606 section 3)"
        return None

    # --- lines that do not fit ---------------------------------------------------------------------------------------
    def _salvage(self, line: bytes, error: Exception) -> Decoded | None:
        """One NLRI or one next hop that has the wrong form must not cost the others in its line."""
        try:
            read = json.loads(line)
        except (ValueError, RecursionError):
            raise LineError(f"a line that is no JSON: {error}"[:TEXT]) from None
        match read:
            case {"type": "update", "neighbor": {"message": {"update": dict(update)}, **rest}}:
                if rest.get("direction", "receive") != "receive":
                    return None
                malformed: list[tuple[str, str]] = []
                body = _Body(
                    msgspec.Raw(json.dumps(update.get("attribute", {})).encode()),
                    {
                        name: {hop: _texts(items, malformed) for hop, items in _mapping(hops, malformed).items()}
                        for name, hops in _mapping(update.get("announce", {}), malformed).items()
                    },
                    {
                        name: _texts(items, malformed)
                        for name, items in _mapping(update.get("withdraw", {}), malformed).items()
                    },
                )
                good = self._update(body) or Update(self._peer, (), ())
                return Update(self._peer, good.withdrawn, good.announced, good.malformed + tuple(malformed))
        raise LineError(f"a line of an unknown form: {error}"[:TEXT])


def _mapping(raw: object, malformed: list[tuple[str, str]]) -> Mapping[str, object]:
    if isinstance(raw, dict):
        return raw
    malformed.append((repr(raw)[:64], "not a table of NLRI"))
    return {}


def _texts(items: object, malformed: list[tuple[str, str]]) -> list[str | _Nlri]:
    texts: list[str | _Nlri] = []
    for item in items if isinstance(items, list) else (items,):
        text = item.get("nlri") if isinstance(item, dict) else item
        if isinstance(text, str):
            texts.append(text)
        else:
            malformed.append((repr(item)[:64], "not an NLRI"))
    return texts


def _prefixes(family: Family, items: Iterable[str | _Nlri], malformed: list[tuple[str, str]]) -> tuple[Prefix, ...]:
    """Pack NLRI. Bits beyond the length have no meaning (RFC 4271 section 4.3) and are dropped."""
    kind, lengths = _SOCKET_FAMILY[family], _LENGTHS[family]
    packed: list[Prefix] = []
    for item in items:
        text = item if isinstance(item, str) else item.nlri
        head, _, tail = text.partition("/")
        try:
            length, host_bits = lengths[tail]
            address = inet_pton(kind, head)
        except (KeyError, OSError, ValueError):
            malformed.append((text[:64], f"not an {family.value} prefix"))
            continue
        if int.from_bytes(address, "big") & host_bits:
            packed.append(network(Address(address), length[0]))
        else:
            packed.append(Prefix(address + length))
    return tuple(packed)


def _prefer_global(by_hop: dict[str, tuple[Prefix, ...]]) -> None:
    """RFC 2545 section 3: with a global next hop, the link-local one beside it tells nothing more here."""
    local = [hop for hop in by_hop if hop.lower().startswith("fe80:")]
    known = {prefix for hop, prefixes in by_hop.items() if hop not in local for prefix in prefixes}
    for hop in local:
        by_hop[hop] = tuple(prefix for prefix in by_hop[hop] if prefix not in known)


def _flat(segments: Mapping[str, _Segment]) -> tuple[int, ...]:
    """The AS path in order, sets flattened: loops and lengths are all that is looked at."""
    ordered: Sequence[str] = list(segments)
    if len(ordered) > 1:
        ordered = sorted(ordered, key=lambda position: (len(position), position))
    return tuple(asn for position in ordered for asn in segments[position].value)
