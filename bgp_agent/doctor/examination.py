"""All checks, in the order a person would ask: what is needed first comes first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bgp_agent.config import with_found
from bgp_agent.core.prefix import parse_prefix
from bgp_agent.doctor import checks, host, network
from bgp_agent.doctor.checks import Check, Context
from bgp_agent.doctor.findings import Finding, Verdict

CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("config", checks.config),
    ("state_dir", checks.state_dir),
    ("capabilities", checks.capabilities),
    ("sysctls", checks.sysctls),
    ("exabgp", checks.exabgp),
    ("port 179", checks.port),
    ("azure", checks.cloud),
    ("peers", network.peers),
    ("source address", host.source_addresses),
    ("mtu", network.mtu),
    ("masquerading", host.masquerading),
    ("networkd", host.networkd),
    ("other daemons", network.strangers),
    ("second agent", checks.second_agent),
    ("clock", checks.clock),
    ("agent", checks.agent),
)
"""Each check by its name."""
_LOG: Final = logging.getLogger(__name__)


async def examine(context: Context, found: Callable[[Finding], None]) -> bool:
    """Make every check and hand over each finding as it comes; was none a failure."""
    context = await _with_kernel(await _with_cloud(context))
    good = True
    for name, check in CHECKS:
        for finding in await _made(name, check, context):
            good &= finding.verdict is not Verdict.FAIL
            found(finding)
    return good


async def _made(name: str, check: Check, context: Context) -> list[Finding]:
    try:
        return list(await check(context))
    except Exception as error:  # noqa: BLE001 - one check that cannot be made must not hide the others
        _LOG.debug("check %s", name, exc_info=True)
        reason = f"could not be checked: {str(error) or type(error).__name__}"
        return [Finding(name, Verdict.WARN, reason, "run it as root, or report this")]


async def _with_cloud(context: Context) -> Context:
    """Ask Azure once, and fill the config up with what it knows, as the agent does."""
    loaded = context.loaded
    if loaded is None or loaded.config.azure is None:
        return context
    from bgp_agent.doctor.cloud import look  # noqa: PLC0415 - Azure's libraries, only where azure is configured

    facts = await look(loaded.config)
    return replace(context, loaded=replace(loaded, config=with_found(loaded.config, facts.remembered)), cloud=facts)


async def _with_kernel(context: Context) -> Context:
    config = context.config
    table, protocol, metric = (254, 179, 4096)
    if config:
        table, protocol, metric = config.kernel.table, config.kernel.protocol, config.kernel.metric
    pools = [parse_prefix(str(pool)) for pool in config.pools] if config else []
    try:
        async with asyncio.timeout(10):
            return replace(context, kernel=await context.machine.kernel(table, protocol, metric, pools))
    except (OSError, ValueError) as error:
        return replace(context, kernel_problem=str(error) or "it did not answer in 10 s")
