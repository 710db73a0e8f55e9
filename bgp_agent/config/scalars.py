"""The kinds of values that the config is made of: durations, addresses, prefixes, AS numbers, communities, end points.

Each is a reader from what stands in the file to the canonical value, raising ``ValueError`` with a sentence that says
what to write instead, and an annotated type that pydantic and the JSON Schema use.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema

from bgp_agent.core.prefix import PrefixError, address_text, parse_address, parse_prefix, prefix_text

T = TypeVar("T")

MAX_DURATION: Final = 720 * 3600.0
"""Seconds: 30 days. A longer one is a slip of the pen."""
_DURATION: Final = re.compile(r"([0-9]{1,10})(ms|s|m|h)", re.ASCII)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

WELL_KNOWN: Final = {
    "no-export": "no-export",
    "no_export": "no-export",
    "no-advertise": "no-advertise",
    "no_advertise": "no-advertise",
    "no-export-subconfed": "no-export-subconfed",
    "no-peer": "no-peer",
    "nopeer": "no-peer",
    "blackhole": "blackhole",
}
"""Names of communities (RFC 1997, 3765, 7999), as written -> as ExaBGP 5 takes them."""

_STANDARD: Final = re.compile(r"[0-9]{1,5}:[0-9]{1,5}", re.ASCII)
_LARGE: Final = re.compile(r"[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}", re.ASCII)


def shown(value: object) -> str:
    """A value as it stands in the file, cut to a readable length."""
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    return text or (repr(value) if isinstance(value, str) else str(value))[:80]


def read_duration(value: object) -> float:
    """``30s`` -> 30.0 seconds. Units are ms, s, m and h; 0 needs none."""
    if value == 0 and type(value) is int:
        return 0.0
    if isinstance(value, float):  # a default, or a value that was read before
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is no duration: write a whole number with ms, s, m or h, such as 30s, or 0")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > MAX_DURATION:
        raise ValueError(f"{value} is longer than 720h, the longest that is taken")
    return seconds


def duration_text(seconds: float) -> str:
    """The shortest text that :func:`read_duration` reads as ``seconds``."""
    milliseconds = round(seconds * 1000)
    if not milliseconds:
        return "0"
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0 and (unit == "s" or milliseconds >= 5 * size):
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def read_address(value: object) -> str:
    """An IPv4 or IPv6 address, as canonical text."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not an IPv4 or IPv6 address")  # noqa: TRY004 - pydantic takes ValueError
    if "%" in value:
        raise ValueError(f"{shown(value)} names a zone: link-local addresses are not taken here")
    try:
        return address_text(parse_address(value))
    except PrefixError as error:
        raise ValueError(str(error)) from None


def read_address4(value: object) -> str:
    """An IPv4 address, as canonical text."""
    text = read_address(value)
    if ":" in text:
        raise ValueError(f"{text} is not an IPv4 address")
    return text


def read_address6(value: object) -> str:
    """An IPv6 address, as canonical text."""
    text = read_address(value)
    if ":" not in text:
        raise ValueError(f"{text} is not an IPv6 address")
    return text


def read_prefix(value: object) -> str:
    """A prefix with its host bits zero, as canonical text."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a prefix: write ADDRESS/LENGTH")  # noqa: TRY004 - as above
    try:
        return prefix_text(parse_prefix(value))
    except PrefixError as error:
        raise ValueError(str(error)) from None


def read_asn(value: object) -> int:
    """An AS number that may stand in an OPEN message (RFC 6793, RFC 7607)."""
    if type(value) is not int:
        raise ValueError(f"{shown(value)} is no AS number: write a whole number from 1 to 4294967295")
    if not 1 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{value} is no AS number: they go from 1 to 4294967295")
    if value == 23456:
        raise ValueError("23456 is AS_TRANS (RFC 6793), which stands for other numbers and belongs to nobody")
    return value


def read_community(value: object) -> str:
    """``64512:10``, ``64512:1:10`` or a well-known name, as ExaBGP takes it."""
    if isinstance(value, str):
        if (name := value.lower()) in WELL_KNOWN:
            return WELL_KNOWN[name]
        limit = 0xFFFF if _STANDARD.fullmatch(value) else 0xFFFFFFFF if _LARGE.fullmatch(value) else -1
        numbers = [int(part) for part in value.split(":")] if limit > 0 else []
        if numbers and max(numbers) <= limit:
            return ":".join(map(str, numbers))
    names = ", ".join(sorted(set(WELL_KNOWN.values())))
    raise ValueError(
        f"{shown(value)} is no community: write two numbers up to 65535 as 64512:10, three up to 4294967295 as "
        f"64512:1:10 (large, RFC 8092), or one of {names}"
    )


def read_listen(value: object) -> str:
    """``ADDRESS:PORT`` with an IPv6 address in brackets, as canonical text."""
    host, port = split_listen(value)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_listen(value: object) -> tuple[str, int]:
    """The address and the port of an end point. Raises ``ValueError`` when it is none."""
    text = value if isinstance(value, str) else ""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 0xFFFF and host):
        raise ValueError(
            f"{shown(value)} is no end point: write ADDRESS:PORT, such as 127.0.0.1:9179, [::1]:9179 or 0.0.0.0:9179"
        )
    if host == "localhost":
        return host, int(port)
    address = read_address6(host[1:-1]) if bracketed else read_address4(host)
    return address, int(port)


def read_url(value: object) -> str:
    """An http or https address without a user name or password in it."""
    text = value if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL here must not hold a user name or password: the agent gets its token by itself")
    if not good or not text.isascii() or any(c <= " " for c in text):
        raise ValueError(f"{shown(value)} is no URL: write http://HOST or https://HOST, with a port if need be")
    return text.rstrip("/")


def to_tuple(value: object) -> object:
    """A list of the file as a tuple; what is no list is left to be refused."""
    return tuple(value) if isinstance(value, list) else value


_OCTETS: Final = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"
_HEX: Final = r"^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$"

Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    WithJsonSchema({"anyOf": [{"const": 0}, {"type": "string", "pattern": "^[0-9]{1,10}(ms|s|m|h)$"}]}),
]
"""Seconds, written as ``30s``."""
Address = Annotated[
    str,
    BeforeValidator(read_address),
    WithJsonSchema({"type": "string", "anyOf": [{"pattern": _OCTETS}, {"pattern": _HEX}]}),
]
Address4 = Annotated[str, BeforeValidator(read_address4), WithJsonSchema({"type": "string", "pattern": _OCTETS})]
Address6 = Annotated[str, BeforeValidator(read_address6), WithJsonSchema({"type": "string", "pattern": _HEX})]
Prefix = Annotated[
    str,
    BeforeValidator(read_prefix),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]{1,3}$"}),
]
Asn = Annotated[
    int,
    BeforeValidator(read_asn),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 0xFFFFFFFF, "not": {"const": 23456}}),
]
Community = Annotated[
    str,
    BeforeValidator(read_community),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [
                {"pattern": "^[0-9]{1,5}:[0-9]{1,5}$"},
                {"pattern": "^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$"},
                {"pattern": "^(?i:" + "|".join(sorted(WELL_KNOWN)) + ")$"},
            ],
        }
    ),
]
Listen = Annotated[
    str,
    BeforeValidator(read_listen),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9.]+|localhost|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$"}),
]
Url = Annotated[str, BeforeValidator(read_url), WithJsonSchema({"type": "string", "pattern": "^https?://[^@\\s]+$"})]
Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line of printable text, such as a path or a name."""
ListOf = Annotated[tuple[T, ...], Field(max_length=1000), BeforeValidator(to_tuple)]
"""A list of the file as a tuple, so that the config can be frozen and compared."""
