"""From the config to Azure's clients, for commands that look once and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.asking import Wanted
from bgp_agent.cloud.clouds import cloud
from bgp_agent.cloud.credentials import Credential
from bgp_agent.cloud.ids import resource_id
from bgp_agent.cloud.imds import Imds, ImdsError
from bgp_agent.config import Config
from bgp_agent.core.prefix import parse_address


def wanted(config: Config) -> Wanted:
    """What the file says, so that Azure is not asked for it."""
    azure = config.azure
    return Wanted(
        address=parse_address(config.node.address) if config.node.address else None,
        route_server=resource_id(azure.route_server) if azure is not None and azure.route_server else None,
        route_tables=tuple(map(resource_id, azure.route_tables)) if azure is not None else (),
        asn=config.bgp.asn,
    )


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[Imds, Arm]]:
    """The clients of the cloud that this machine is in. Raises :class:`ValueError` for one that is not known."""
    azure = config.azure
    if azure is None:
        raise ValueError("the section azure is not configured")
    async with Imds(azure.imds_url) as imds:
        try:
            environment: str | None = (await imds.instance()).environment
        except ImdsError:
            environment = None
        chosen = cloud(environment, azure.arm_url)
        async with Arm(chosen, Credential(chosen, azure.imds_url), allow_http=azure.allow_http) as arm:
            yield imds, arm
