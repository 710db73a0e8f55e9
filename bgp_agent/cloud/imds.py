"""The Instance Metadata Service: who this virtual machine is, and what Azure is about to do to it.

learn.microsoft.com/azure/virtual-machines/instance-metadata-service and .../linux/scheduled-events. Plain HTTP on a
link-local address, header ``Metadata: true``, never through a proxy, 5 requests a second at most.
"""

from __future__ import annotations

import asyncio
import email.utils
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
import msgspec

from bgp_agent.cloud.errors import CloudError, clean
from bgp_agent.core.prefix import Address, PrefixError, parse_address

T = TypeVar("T")

URL: Final = "http://169.254.169.254"
TIMEOUT: Final = 4.0
"""Seconds for an answer, and for a connection half of it."""
FIRST_EVENTS: Final = 125.0
"""Seconds for the first answer about events: asking turns the feature on, which takes Azure up to two minutes."""
MAX_BYTES: Final = 1024 * 1024
_ABSENT: Final = "this is not an Azure VM, or IMDS is blocked for this process"
_INSTANCE: Final = "/metadata/instance?api-version=2021-02-01"
_EVENTS: Final = "/metadata/scheduledevents?api-version=2020-07-01"


class ImdsError(CloudError):
    """No answer, or none that IMDS would give; the text says what that may mean."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. ``mac``: 12 upper-case hex digits; ``addresses``: private ones, IPv4 before IPv6."""

    mac: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Instance:
    """A virtual machine. ``environment``: the cloud it runs in; the order of ``interfaces`` means nothing."""

    subscription: str
    group: str
    name: str
    resource_id: str
    environment: str
    location: str
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A scheduled event. ``kind``: Freeze, Reboot, Redeploy, Preempt or Terminate; ``status``: Scheduled or Started.

    ``machines``: names of the virtual machines it is for, ours or others of our set. ``not_before``: seconds since the
    epoch, None once it has started or where it cannot be read. ``duration``: seconds, None if Azure does not know.
    """

    id: str
    kind: str
    status: str
    machines: tuple[str, ...]
    not_before: float | None
    duration: float | None


@dataclass(frozen=True, slots=True)
class Events:
    """All events; ``incarnation`` grows with each change."""

    incarnation: int
    events: tuple[Event, ...]


class _Wire(msgspec.Struct, rename="camel"):
    pass


class _Compute(_Wire):
    subscription_id: str
    resource_group_name: str
    name: str
    resource_id: str
    az_environment: str = ""
    location: str = ""


class _Ip(_Wire):
    private_ip_address: str | None = None


class _Ips(_Wire):
    ip_address: list[_Ip] | None = None


class _Interface(_Wire):
    mac_address: str = ""
    ipv4: _Ips | None = None
    ipv6: _Ips | None = None


class _Network(_Wire):
    interface: list[_Interface] | None = None


class _Document(_Wire):
    compute: _Compute
    network: _Network | None = None


class _Event(msgspec.Struct, rename="pascal"):
    event_id: str
    event_type: str
    event_status: str
    resources: list[str]
    not_before: str | None = None
    duration_in_seconds: int | None = None


class _Events(msgspec.Struct, rename="pascal"):
    document_incarnation: int
    events: list[_Event]


class Imds:
    """A client; use as an async context manager, or :meth:`close` it."""

    def __init__(self, url: str | None = None, *, timeout: float = TIMEOUT) -> None:
        self.url = (url or URL).rstrip("/")
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._events_on = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection back."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def instance(self) -> Instance:
        """Who this is. Raises :class:`ImdsError`."""
        found = self._read(await self._ask("GET", _INSTANCE, self._timeout), _Document)
        compute, network = found.compute, found.network
        return Instance(
            compute.subscription_id, compute.resource_group_name, compute.name, compute.resource_id,
            compute.az_environment, compute.location,
            tuple(_interface(each) for each in (network.interface if network else None) or []),
        )  # fmt: skip

    async def events(self) -> Events:
        """What is scheduled, of all machines that share our fate. Raises :class:`ImdsError`."""
        body = await self._ask("GET", _EVENTS, self._timeout if self._events_on else max(FIRST_EVENTS, self._timeout))
        found = self._read(body, _Events)
        self._events_on = True
        return Events(found.document_incarnation, tuple(_event(each) for each in found.events))

    async def start(self, event_id: str) -> None:
        """Tell Azure that an event may begin now. Raises :class:`ImdsError`."""
        body = msgspec.json.encode({"StartRequests": [{"EventId": event_id}]})
        await self._ask("POST", _EVENTS, self._timeout, body)

    async def _ask(self, method: str, path: str, timeout: float, body: bytes | None = None) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=self._timeout / 2)
        headers = {"Metadata": "true", "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(timeout + 1),
                self._session.request(
                    method, self.url + path, data=body, headers=headers, timeout=limits, allow_redirects=False
                ) as answer,
            ):
                said = await answer.content.read(MAX_BYTES + 1)
                while 0 < len(said) <= MAX_BYTES and (more := await answer.content.read(MAX_BYTES + 1 - len(said))):
                    said += more
                status = answer.status
        except TimeoutError:
            raise ImdsError(f"IMDS at {self.url} does not answer: {_ABSENT}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ImdsError(f"IMDS at {self.url} is not reached: {clean(error)}: {_ABSENT}") from None
        if status != 200:
            raise ImdsError(f"IMDS at {self.url} answers {status}: {clean(said[:200].decode('utf-8', 'replace'))}")
        return said

    def _read(self, body: bytes, kind: type[T]) -> T:
        if len(body) > MAX_BYTES:
            raise ImdsError(f"IMDS at {self.url} answers more than {MAX_BYTES:,} bytes: something else answers there")
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            words = f"IMDS at {self.url} answers what IMDS would not: {clean(error)}"
            raise ImdsError(f"{words}: something else answers there") from None


def _interface(wire: _Interface) -> Interface:
    found = []
    for each in [*((wire.ipv4 and wire.ipv4.ip_address) or []), *((wire.ipv6 and wire.ipv6.ip_address) or [])]:
        try:
            found.append(parse_address(each.private_ip_address or ""))
        except PrefixError:
            continue  # an address that is not assigned yet is empty
    return Interface(mac(wire.mac_address), tuple(found))


def mac(text: str) -> str:
    """A MAC address as it is compared: IMDS writes it without separators, ARM with dashes."""
    return text.replace("-", "").replace(":", "").upper()


def _event(wire: _Event) -> Event:
    try:
        not_before: float | None = email.utils.parsedate_to_datetime(wire.not_before or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        not_before = None
    duration = wire.duration_in_seconds
    return Event(
        wire.event_id, wire.event_type, wire.event_status, tuple(wire.resources), not_before,
        float(duration) if duration is not None and duration >= 0 else None,
    )  # fmt: skip
