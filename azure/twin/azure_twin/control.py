"""The twin's own API under ``/twin``: what to break, what is held, what the fabric would do.

Open only on the addresses of ``listen``; inside the fabric there is no /twin, as a VM has none in Azure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal, Protocol

import msgspec

from azure_twin.core.errors import ArmError, Json
from azure_twin.core.faults import Fault, Faults
from azure_twin.core.imds import Event
from azure_twin.core.messages import Request, Response, json_object, refusal

State = Literal["up", "down", "killed", "silent"]
#: Prefixes that one order may name.
MAX_LACKS: Final = 1000


class InstanceOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is not named stays as it is.

    ``state``: ``up``; ``down`` (its BIRD is stopped, as in maintenance); ``killed`` (it dies without a NOTIFICATION);
    ``silent`` (its packets are dropped, sessions hang). ``lacks``: prefixes that it takes and silently does not keep.
    """

    state: State | None = None
    lacks: Annotated[list[str], msgspec.Meta(max_length=MAX_LACKS)] | None = None

    def __post_init__(self) -> None:
        """Only prefixes go into BIRD's configuration; raises :class:`ValueError`."""
        if self.lacks is not None:
            self.lacks = [str(ipaddress.IPv4Network(each)) for each in self.lacks]


class LinkOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``silent``: every packet of this VM is dropped without a word."""

    silent: bool


class ClockOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Move the clock ahead (seconds): operations end, tokens expire, events begin."""

    advance: float


class TokenOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``expire``: all tokens issued until now are expired. ``lifetime``: of those to come (seconds)."""

    expire: bool = False
    lifetime: float | None = None


class ThrottleOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``drain``: every bucket is empty now."""

    drain: bool = True


class Controlled(Protocol):
    """What the API steers."""

    @property
    def faults(self) -> Faults:
        """Faults on demand."""

    def status(self) -> Json:
        """Everything worth seeing."""

    def route(self, source: str, target: str) -> str:
        """What the fabric does with a packet, in a sentence."""

    def order_instance(self, index: int, state: State | None, lacks: Sequence[str] | None) -> None:
        """Raises :class:`LookupError` for an instance that is not there."""

    def order_link(self, vm: str, *, silent: bool) -> None:
        """Raises :class:`LookupError` for a VM that is not there."""

    def advance(self, seconds: float) -> None:
        """Move the clock ahead."""

    def order_tokens(self, *, expire: bool, lifetime: float | None) -> None:
        """Expire tokens, or change how long they live."""

    def drain_throttle(self) -> None:
        """Empty the buckets."""

    def announce_event(self, event: Event) -> Json:
        """Announce a scheduled event."""


def serve(twin: Controlled, request: Request) -> Response:
    """Answer one request under /twin."""
    parts = request.path.strip("/").split("/")[1:]
    route = _ROUTES.get((request.method, parts[0] if parts else ""))
    if route is None:
        words = f"{request.method} {request.path[:200]} is not part of the twin's API: docs/reference/azure-twin.md"
        return refusal(ArmError(404, "NotFound", words))
    try:
        return Response(200, route(twin, request, parts[1:]), waits=request.method == "POST")
    except (msgspec.ValidationError, ValueError) as error:
        return refusal(ArmError(400, "BadRequest", str(error)))
    except LookupError as error:
        return refusal(ArmError(404, "NotFound", str(error.args[0] if error.args else error)))
    except ArmError as error:
        return refusal(error)


def _status(twin: Controlled, _: Request, __: list[str]) -> Json:
    return twin.status()


def _route(twin: Controlled, request: Request, _: list[str]) -> Json:
    source, target = request.query.get("from", ""), request.query.get("to", "")
    if not source or not target:
        raise ValueError("GET /twin/route?from=ADDRESS|VM&to=ADDRESS|VM")
    return {"from": source, "to": target, "answer": twin.route(source, target)}


def _add_fault(twin: Controlled, request: Request, _: list[str]) -> Json:
    return {"id": twin.faults.add(msgspec.convert(json_object(request.body), Fault))}


def _faults(twin: Controlled, _: Request, __: list[str]) -> Json:
    return {"faults": [msgspec.to_builtins(each) for each in twin.faults.waiting]}


def _clear_faults(twin: Controlled, _: Request, __: list[str]) -> Json:
    twin.faults.clear()
    return {}


def _instance(twin: Controlled, request: Request, rest: list[str]) -> Json:
    order = msgspec.convert(json_object(request.body), InstanceOrder)
    if len(rest) != 1 or not rest[0].isdigit():
        raise ValueError("POST /twin/instances/0 or /twin/instances/1")
    twin.order_instance(int(rest[0]), order.state, order.lacks)
    return {}


def _link(twin: Controlled, request: Request, rest: list[str]) -> Json:
    order = msgspec.convert(json_object(request.body), LinkOrder)
    twin.order_link(rest[0] if rest else "", silent=order.silent)
    return {}


def _clock(twin: Controlled, request: Request, _: list[str]) -> Json:
    order = msgspec.convert(json_object(request.body), ClockOrder)
    if not 0 <= order.advance <= 10 * 365 * 86400:
        raise ValueError("advance: from 0 to ten years, in seconds; time does not go back")
    twin.advance(order.advance)
    return {}


def _tokens(twin: Controlled, request: Request, _: list[str]) -> Json:
    order = msgspec.convert(json_object(request.body), TokenOrder)
    twin.order_tokens(expire=order.expire, lifetime=order.lifetime)
    return {}


def _throttle(twin: Controlled, request: Request, _: list[str]) -> Json:
    if msgspec.convert(json_object(request.body or b"{}"), ThrottleOrder).drain:
        twin.drain_throttle()
    return {}


def _event(twin: Controlled, request: Request, _: list[str]) -> Json:
    return twin.announce_event(msgspec.convert(json_object(request.body), Event))


_ROUTES: Final[dict[tuple[str, str], Callable[[Controlled, Request, list[str]], Json]]] = {
    ("GET", "status"): _status,
    ("GET", "route"): _route,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "instances"): _instance,
    ("POST", "links"): _link,
    ("POST", "clock"): _clock,
    ("POST", "tokens"): _tokens,
    ("POST", "throttle"): _throttle,
    ("POST", "events"): _event,
}
