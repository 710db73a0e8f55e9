"""Run with the clients' Python: the Azure SDK's async clients against the twin; prints what it saw as JSON."""

# mypy: disable-error-code="import-untyped,import-not-found,unused-ignore"
from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity.aio import ManagedIdentityCredential, WorkloadIdentityCredential
from azure.mgmt.network.aio import NetworkManagementClient

BASE = "https://127.0.0.1:8443"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
VNET = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/seeded/providers/Microsoft.Network/virtualNetworks/v"
ROUTE = {
    "properties": {
        "addressPrefix": "192.168.1.0/26",
        "nextHopType": "VirtualAppliance",
        "nextHopIpAddress": "10.42.1.4",
    }
}


def federated(path: str) -> None:
    """A service account's token, as a cluster would mount it."""
    claims = {"iss": "https://issuer.test/", "sub": "system:serviceaccount:kube-system:agent", "exp": time.time() + 600,
              "aud": ["api://AzureADTokenExchange"]}  # fmt: skip
    parts = [
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in ({"alg": "RS256"}, claims)
    ]
    Path(path).write_text(".".join([*parts, "c2ln"]), encoding="utf-8")


async def refused(call: object) -> list[object]:
    """The error of a call that must fail: class, status, code."""
    try:
        await call  # type: ignore[misc]
    except HttpResponseError as error:
        return [type(error).__name__, error.status_code, error.error.code if error.error else None]
    return ["nothing was raised"]


async def story(certificate: str, folder: str) -> dict[str, object]:
    seen: dict[str, object] = {}
    federated(f"{folder}/token")
    workload = WorkloadIdentityCredential(
        tenant_id="00000000-0000-0000-0000-00000000000a",
        client_id="00000000-0000-0000-0000-0000000000c1",
        token_file_path=f"{folder}/token",
        authority=BASE,
        disable_instance_discovery=True,
        connection_verify=certificate,
    )
    async with workload:
        seen["workload"] = bool((await workload.get_token("https://management.azure.com/.default")).token)
    credential = ManagedIdentityCredential()
    common = {
        "base_url": BASE,
        "connection_verify": certificate,
        "polling_interval": 0.2,
        "credential_scopes": ["https://management.azure.com/.default"],
    }
    async with credential, NetworkManagementClient(credential, SUBSCRIPTION, **common) as client:
        place = {"location": "westeurope"}
        await (await client.route_tables.begin_create_or_update("seeded", "rt1", place)).result()
        made = await (await client.routes.begin_create_or_update("seeded", "rt1", "r1", ROUTE)).result()
        seen["made"] = [made.name, made.provisioning_state, made.next_hop_ip_address]
        etag = made.etag
        again = await client.routes.begin_create_or_update("seeded", "rt1", "r1", ROUTE, headers={"If-Match": etag})
        await again.result()
        seen["412"] = await refused(
            client.routes.begin_create_or_update("seeded", "rt1", "r1", ROUTE, headers={"If-Match": etag})
        )
        seen["conflict"] = await refused(client.routes.begin_create_or_update("seeded", "rt1", "r2", ROUTE))
        seen["listed"] = [each.name async for each in client.routes.list("seeded", "rt1")]
        seen["404"] = await refused(client.routes.get("seeded", "rt1", "none"))
        vnet = {
            **place,
            "properties": {
                "addressSpace": {"addressPrefixes": ["10.42.0.0/16"]},
                "subnets": [{"name": "RouteServerSubnet", "properties": {"addressPrefix": "10.42.0.0/26"}}],
            },
        }
        await (await client.virtual_networks.begin_create_or_update("seeded", "v", vnet)).result()
        address = await (await client.public_ip_addresses.begin_create_or_update("seeded", "ip", place)).result()
        await (await client.virtual_hubs.begin_create_or_update("seeded", "rs", {**place, "properties": {}})).result()
        seen["early"] = await refused(
            client.virtual_hub_bgp_connection.begin_create_or_update(
                "seeded", "rs", "a", {"properties": {"peerIp": "10.42.1.4", "peerAsn": 64512}}
            )
        )
        await (
            await client.virtual_hub_ip_configuration.begin_create_or_update(
                "seeded",
                "rs",
                "Default",
                {
                    "properties": {
                        "subnet": {"id": f"{VNET}/subnets/RouteServerSubnet"},
                        "publicIPAddress": {"id": address.id},
                    }
                },
            )
        ).result()
        hub = await client.virtual_hubs.get("seeded", "rs")
        seen["hub"] = [hub.virtual_router_asn, hub.virtual_router_ips, hub.routing_state]
        peer = await (
            await client.virtual_hub_bgp_connection.begin_create_or_update(
                "seeded", "rs", "a", {"properties": {"peerIp": "10.42.1.4", "peerAsn": 64512}}
            )
        ).result()
        seen["peer"] = [peer.peer_ip, peer.peer_asn, peer.provisioning_state]
        learned = await (
            await client.virtual_hub_bgp_connections.begin_list_learned_routes("seeded", "rs", "a")
        ).result()
        seen["learned"] = sorted(learned)
        seen["usages"] = [each.name.value async for each in client.usages.list("westeurope")]
        print(json.dumps("slow"), flush=True)  # noqa: T201  # the test sets faults up now
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        running = await client.routes.begin_create_or_update("seeded", "rt1", "r1", ROUTE)
        started = time.monotonic()
        seen["429"] = await refused(
            client.routes.begin_create_or_update(
                "seeded",
                "rt1",
                "r9",
                {"properties": {"addressPrefix": "10.9.0.0/16", "nextHopType": "None"}},
                retry_total=0,
            )
        )
        await running.result()
        seen["lro_waited"] = time.monotonic() - started > 1
        seen["409"] = await refused(client.routes.begin_create_or_update("seeded", "rt1", "r1", ROUTE))
        seen["409 is"] = issubclass(ResourceExistsError, HttpResponseError)
        seen["404 is"] = issubclass(ResourceNotFoundError, HttpResponseError)
        failing = await client.routes.begin_create_or_update("seeded", "rt1", "r1", ROUTE)
        seen["failed"] = await refused(failing.result())
        seen["state"] = (await client.routes.get("seeded", "rt1", "r1")).provisioning_state
        seen["retried"] = (await client.routes.get("seeded", "rt1", "r1")).name
        await (await client.routes.begin_delete("seeded", "rt1", "r1")).result()
        seen["left"] = [each.name async for each in client.routes.list("seeded", "rt1")]
    return seen


if __name__ == "__main__":
    os.environ["NO_PROXY"] = "*"
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(asyncio.run(story(sys.argv[1], sys.argv[2]))), flush=True)  # noqa: T201
