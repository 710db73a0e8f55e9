"""Query parameters: strangers' text in, typed values out, or an error that says what, where and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from bgp_agent.core.prefix import Prefix, PrefixError, host, parse_address, parse_prefix
from bgp_agent.core.values import RouteState
from bgp_agent.web.limits import LIMIT, LIMIT_MOST

_STATES: Final = ", ".join(state.value for state in RouteState)


class BadParameterError(ValueError):
    """A parameter that cannot be used. ``where`` names it, ``remedy`` says what would be right."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}; {remedy}")
        self.what = what
        self.where = where
        self.remedy = remedy


def single(pairs: Iterable[tuple[str, str]], known: Mapping[str, str]) -> dict[str, str]:
    """Each parameter once, and none that is not ``known`` (name -> what it means). Raises BadParameterError."""
    names = ", ".join(f"{name}={meaning}" for name, meaning in known.items()) or "no parameter is taken here"
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise BadParameterError(f"no parameter {name[:64]!r} here", "query", f"known: {names}")
        if name in found:
            raise BadParameterError("given twice", name, "give it once")
        found[name] = value
    return found


def target(text: str | None, where: str) -> tuple[str, Prefix]:
    """An address or a prefix, as given and packed (an address as its host route). Raises BadParameterError."""
    remedy = "give an address or a prefix, such as 192.168.2.7 or 192.168.2.0/26"
    if not text:
        raise BadParameterError("missing or empty", where, remedy)
    try:
        return text, parse_prefix(text) if "/" in text else host(parse_address(text))
    except PrefixError as error:
        raise BadParameterError(str(error), where, remedy) from None


def route_state(text: str | None) -> RouteState | None:
    """The state to filter by, None for all. Raises BadParameterError."""
    if text is None:
        return None
    try:
        return RouteState(text)
    except ValueError:
        raise BadParameterError(f"{text[:64]!r} is no state of a route", "state", f"one of {_STATES}") from None


def overlapping(text: str | None) -> Prefix | None:
    """The prefix that routes shall overlap, None for all. Raises BadParameterError."""
    return None if text is None else target(text, "prefix")[1]


def cursor(text: str | None) -> Prefix | None:
    """Where the page before ended. Raises BadParameterError."""
    if text is None:
        return None
    try:
        return parse_prefix(text)
    except PrefixError:
        raise BadParameterError(
            f"{text[:64]!r} is not a cursor", "cursor", "take it unchanged from the page before, or leave it out"
        ) from None


def limit(text: str | None) -> int:
    """How many routes at most. Raises BadParameterError."""
    if text is None:
        return LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= LIMIT_MOST):
        raise BadParameterError(
            f"{text[:64]!r} is not a number from 1 to {LIMIT_MOST}", "limit", "leave it out for 1000, or page by cursor"
        )
    return int(text)
