"""Instance Metadata Service: who a VM is, tokens for it, and what Azure is about to do to it.

learn.microsoft.com "instance-metadata-service": header ``Metadata: true``, no ``X-Forwarded-For``, an api-version, at
most 5 requests a
second (20 for identity) from one VM. All values are strings.
"""

from __future__ import annotations

import email.utils
import ipaddress
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from azure_twin.core.errors import ArmError, Json
from azure_twin.core.forwarding import Port
from azure_twin.core.kinds.nics import mac
from azure_twin.core.messages import Request, Response, json_object
from azure_twin.core.settings import Settings
from azure_twin.core.specs import SubnetSpec
from azure_twin.core.tokens import Identity, Tokens

INSTANCE_VERSIONS: Final = frozenset(
    {
        "2017-08-01",
        "2018-02-01",
        "2019-06-01",
        "2020-06-01",
        "2020-09-01",
        "2021-01-01",
        "2021-02-01",
        "2021-12-13",
        "2023-07-01",
    }
)
EVENT_VERSIONS: Final = frozenset({"2017-11-01", "2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"})
TOKEN_VERSIONS: Final = frozenset({"2018-02-01", "2019-08-01", "2020-06-01"})
#: Notice in seconds that Azure gives before an event.
NOTICE: Final = {"Freeze": 900.0, "Reboot": 900.0, "Redeploy": 600.0, "Preempt": 30.0, "Terminate": 300.0}


class Event(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A scheduled event. ``resources`` are VM names; ``not_before`` is when it may begin (seconds since the epoch)."""

    event_type: str
    resources: list[str]
    duration: int = 5
    notice: float | None = None
    event_id: str = ""
    status: str = "Scheduled"
    not_before: float = 0.0

    def json(self) -> Json:
        """As IMDS shows it."""
        return {
            "EventId": self.event_id,
            "EventStatus": self.status,
            "EventType": self.event_type,
            "ResourceType": "VirtualMachine",
            "Resources": self.resources,
            "NotBefore": email.utils.formatdate(self.not_before, usegmt=True) if self.status == "Scheduled" else "",
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": self.duration,
        }


class Events:
    """The scheduled events of all VMs."""

    def __init__(self) -> None:
        self.incarnation = 1
        self.all: list[Event] = []

    def add(self, event: Event, now: float) -> Event:
        """Announce an event; the usual notice unless one is given."""
        if event.event_type not in NOTICE:
            raise ValueError(f"event_type {event.event_type!r} is none of {', '.join(NOTICE)}")
        notice = NOTICE[event.event_type] if event.notice is None else event.notice
        event.event_id = str(uuid.uuid4()).upper()
        event.not_before = now + notice
        self.all.append(event)
        self.incarnation += 1
        return event

    def handle_timer(self, now: float) -> None:
        """Scheduled → Started when its time comes → gone after its duration."""
        for event in list(self.all):
            if event.status == "Scheduled" and event.not_before <= now:
                event.status = "Started"
                self.incarnation += 1
            if event.status == "Started" and event.not_before + max(event.duration, 0) <= now:
                self.all.remove(event)
                self.incarnation += 1

    def acknowledge(self, event_ids: Iterable[str], now: float) -> None:
        """``StartRequests``: begin at once."""
        wanted = set(event_ids)
        for event in self.all:
            if event.event_id in wanted and event.status == "Scheduled":
                event.status, event.not_before = "Started", now
                self.incarnation += 1


@dataclass(frozen=True, slots=True)
class Vm:
    """A VM as the YAML file names it."""

    name: str
    identities: tuple[str, ...] = ()
    zone: str = "1"
    tags: str = ""


class Imds:
    """IMDS for all VMs; the request's source address says which one asks."""

    def __init__(
        self, settings: Settings, tokens: Tokens, identities: Mapping[str, Identity], vms: Mapping[str, Vm]
    ) -> None:
        self.settings = settings
        self.tokens = tokens
        self.identities = identities
        self.vms = vms
        self.events = Events()
        self._rates: dict[tuple[str, str], tuple[float, int]] = {}

    def handle(self, request: Request, ports: Sequence[Port], now: float) -> Response:
        """Answer one request under ``/metadata``."""
        try:
            return self._handle(request, ports, now)
        except ArmError as error:
            return Response(error.status, {"error": error.code, "error_description": error.message}, error.headers)

    def _handle(self, request: Request, ports: Sequence[Port], now: float) -> Response:
        if request.headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in request.headers:
            raise ArmError(400, "invalid_request", "Required metadata header not specified")
        path = request.path.rstrip("/").lower()
        identity = path == "/metadata/identity/oauth2/token"
        port = next((each for each in ports if request.source in each.addresses), None)
        vm = port.vm if port else next(iter(self.vms), "")
        self._rate(vm, "identity" if identity else "other", now)
        if identity:
            return self._token(request, vm, now)
        if path == "/metadata/scheduledevents":
            return self._events(request, now)
        if path.startswith("/metadata/instance"):
            self._version(request, INSTANCE_VERSIONS)
            return self._walk(self._instance(vm, port or _port_of(ports, vm)), path, request)
        raise ArmError(404, "Not found", "The requested path was not found")

    def _version(self, request: Request, known: frozenset[str]) -> None:
        if request.query.get("api-version") not in known:
            newest = ", ".join(sorted(known, reverse=True)[:3])
            raise ArmError(
                400, "Bad request", f"api-version is missing or not supported. The newest versions are {newest}"
            )

    def _rate(self, vm: str, kind: str, now: float) -> None:
        limits = self.settings.limits
        limit = limits.identity_per_second if kind == "identity" else limits.imds_per_second
        second, count = self._rates.get((vm, kind), (now, 0))
        if now - second >= 1:
            second, count = now, 0
        if limit and count >= limit:
            raise ArmError(429, "Too Many Requests", "Too many requests", headers={"Retry-After": "1"})
        self._rates[vm, kind] = (second, count + 1)

    def _token(self, request: Request, vm: str, now: float) -> Response:
        self._version(request, TOKEN_VERSIONS)
        resource = request.query.get("resource")
        if not resource:
            raise ArmError(400, "invalid_request", "The resource parameter is required")
        mine = [self.identities[each] for each in (self.vms[vm].identities if vm in self.vms else self.identities)]
        client, object_id = request.query.get("client_id"), request.query.get("object_id")
        chosen = [each for each in mine if client in {None, each.client_id} and object_id in {None, each.object_id}]
        if not chosen:
            raise ArmError(400, "invalid_request", "Identity not found")
        if len(chosen) > 1:
            raise ArmError(
                400,
                "invalid_request",
                "Multiple user assigned identities exist, please specify the clientId / resourceId of "
                "the identity in the token request",
            )
        return Response(200, self.tokens.issue(chosen[0], resource, now))

    def _events(self, request: Request, now: float) -> Response:
        self._version(request, EVENT_VERSIONS)
        self.events.handle_timer(now)
        if request.method == "POST":
            body = json_object(request.body)
            starts = body.get("StartRequests")
            if not isinstance(starts, list):
                raise ArmError(400, "Bad request", "StartRequests is missing")
            self.events.acknowledge((str(each.get("EventId")) for each in starts if isinstance(each, dict)), now)
            return Response(200)
        return Response(
            200,
            {
                "DocumentIncarnation": self.events.incarnation,
                "Events": [each.json() for each in self.events.all],
            },
        )

    def _instance(self, vm: str, port: Port | None) -> Json:
        group = port.nic.id.split("/")[4] if port else ""
        known = self.vms.get(vm, Vm(vm))
        compute: Json = {
            "azEnvironment": "AzurePublicCloud",
            "location": self.settings.location,
            "name": vm,
            "resourceGroupName": group,
            "subscriptionId": self.settings.subscription,
            "resourceId": f"/subscriptions/{self.settings.subscription}/resourceGroups/{group}/providers/"
            f"Microsoft.Compute/virtualMachines/{vm}",
            "vmId": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{vm}.{self.settings.subscription}")),
            "vmScaleSetName": "",
            "zone": known.zone,
            "tags": known.tags,
            "tagsList": [],
            "osType": "Linux",
            "provider": "Microsoft.Compute",
            "virtualMachineScaleSet": {"id": ""},
        }
        interfaces = [] if port is None else [_interface(port)]
        return {"compute": compute, "network": {"interface": interfaces}}

    @staticmethod
    def _walk(document: Json, path: str, request: Request) -> Response:
        """``/metadata/instance/compute/name``: a part of the document, as text with ``format=text``."""
        node: object = document
        for part in [each for each in path.removeprefix("/metadata/instance").split("/") if each]:
            node = _step(node, part)
        if request.query.get("format") == "text" and isinstance(node, str):
            return Response(200, node.encode(), {"Content-Type": "text/plain; charset=utf-8"})
        return Response(200, node)


def _step(node: object, part: str) -> object:
    if isinstance(node, dict):
        for name, value in node.items():
            if str(name).lower() == part:
                return value
    if isinstance(node, list) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    raise ArmError(404, "Not found", f"{part} was not found")


def _port_of(ports: Sequence[Port], vm: str) -> Port | None:
    return next((each for each in ports if each.vm == vm), None)


def _interface(port: Port) -> Json:
    prefix = ipaddress.IPv4Network(port.subnet.spec(SubnetSpec).prefix)
    return {
        "ipv4": {
            "ipAddress": [{"privateIpAddress": each, "publicIpAddress": ""} for each in port.addresses],
            "subnet": [{"address": str(prefix.network_address), "prefix": str(prefix.prefixlen)}],
        },
        "ipv6": {"ipAddress": []},
        "macAddress": mac(port.nic),
    }
