"""The real twin inside the test's own event loop, and the agent's clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest
from azure_twin.config import parse
from azure_twin.core.faults import Fault
from azure_twin.core.imds import Event
from azure_twin.http.server import Handler, bound, listen
from azure_twin.twin import Twin

from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.clouds import cloud
from bgp_agent.cloud.credentials import Credential
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Imds

SUBSCRIPTION = ResourceId("/subscriptions/00000000-0000-0000-0000-000000000001")
NETWORK = f"{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Network"
TABLE = ResourceId(f"{NETWORK}/routeTables/rt1")
SERVER = ResourceId(f"{NETWORK}/virtualHubs/rs1")

CONFIG = """
fabric: {mode: none}
limits: {imds_per_second: 0, identity_per_second: 0}
virtual_networks:
- name: vnet1
  address_space: [10.42.0.0/16]
  subnets:
  - {name: RouteServerSubnet, prefix: 10.42.0.0/26}
  - {name: nodes, prefix: 10.42.1.0/24, route_table: rt1}
  - {name: others, prefix: 10.42.2.0/24, route_table: rt2}
  - {name: databases, prefix: 10.42.3.0/24}
route_tables: [{name: rt1}, {name: rt2}]
route_server:
  name: rs1
  virtual_network: vnet1
  peers: [{name: a, address: 10.42.1.4, asn: 64512}, {name: b, address: 10.42.1.5, asn: 64513}]
nics:
- {name: nic-a, subnet: nodes, address: 10.42.1.4, ip_forwarding: true}
- {name: nic-b, subnet: nodes, address: 10.42.1.5, ip_forwarding: true}
- {name: nic-c, subnet: others, address: 10.42.2.4, ip_forwarding: true}
- {name: db, subnet: databases, address: 10.42.3.4}
vms: [{name: a, nic: nic-a}, {name: b, nic: nic-b}, {name: c, nic: nic-c}, {name: db}]
"""


@dataclass
class Azure:
    """A twin and the agent's clients for it; on loopback the twin takes everybody for its first VM, ``a``."""

    twin: Twin
    url: str
    imds: Imds
    arm: Arm

    def fault(self, **fault: object) -> None:
        """What the next matching request meets."""
        self.twin.faults.add(msgspec.convert(fault, Fault))

    def schedule(self, kind: str, *machines: str) -> None:
        """Announce a scheduled event."""
        self.twin.announce_event(Event(event_type=kind, resources=list(machines)))


Opened = Callable[..., Awaitable[Azure]]


@asynccontextmanager
async def running(config: str, timeout: float) -> AsyncIterator[Azure]:
    twin = Twin(parse(config))
    twin.open()
    listening = bound("127.0.0.1:0")
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    runner = await listen(Handler(twin, control=True), listening)
    chosen = cloud("AzurePublicCloud", url)
    async with Imds(url) as imds, Arm(chosen, Credential(chosen, url), allow_http=True, timeout=timeout) as arm:
        try:
            yield Azure(twin, url, imds, arm)
        finally:
            if twin._timer is not None:
                twin._timer.cancel()
            await runner.cleanup()
            twin.journal.close()


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    """Start a twin: ``await opened(timing="{preset: fast, route: 0.3}", extra="...")``."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")  # put back afterwards
    for name in ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "IDENTITY_ENDPOINT", "MSI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    async with AsyncExitStack() as stack:

        async def start(timing: str = "fast", extra: str = "", config: str = CONFIG, timeout: float = 20.0) -> Azure:
            return await stack.enter_async_context(running(f"timing: {timing}\n{config}{extra}", timeout))

        yield start


@pytest.fixture
async def azure(opened: Opened) -> Azure:
    """A twin without delays."""
    return await opened()
