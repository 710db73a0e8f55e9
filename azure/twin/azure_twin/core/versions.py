"""api-versions: which ones each provider knows, and the two errors for a missing and an unknown one."""

from __future__ import annotations

from typing import Final

from azure_twin.core.errors import ArmError

_NETWORK: Final = {
    "2020": "03 04 05 06 07 08 11",
    "2021": "02 03 05 08",
    "2022": "01 05 07 09 11",
    "2023": "02 04 05 06 09 11",
    "2024": "01 03 05 07 10",
    "2025": "01 03 05 07 09",
    "2026": "01 03",
}
NETWORK: Final = frozenset(f"{year}-{month}-01" for year, months in _NETWORK.items() for month in months.split())
RESOURCES: Final = frozenset(
    f"{year}-{month}-01"
    for year in range(2019, 2027)
    for month in ("01", "03", "04", "06", "07", "09", "10", "11", "12")
)
AUTHORIZATION: Final = frozenset(
    {"2015-07-01", "2018-01-01-preview", "2020-04-01-preview", "2022-04-01", "2022-05-01-preview"}
)
KNOWN: Final = {
    "microsoft.network": NETWORK,
    "microsoft.resources": RESOURCES,
    "microsoft.authorization": AUTHORIZATION,
}
ECMP_ROUTES: Final = "2025-07-01"  # VirtualApplianceEcmp and nextHop.nextHopIpAddresses
ROUTE_MAPS: Final = "2024-10-01"  # routingConfiguration of a bgpConnection is visible from here on


def check(kind: str, version: str | None, location: str) -> str:
    """The api-version of a request, or the error that Azure answers."""
    namespace, _, types = kind.partition("/")
    if not version:
        raise ArmError(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    known = KNOWN.get(namespace.lower())
    if known is None:
        raise ArmError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
    if version not in known:
        raise ArmError(
            400,
            "NoRegisteredProviderFound",
            f"No registered resource provider found for location '{location}' and API version '{version}' for type "
            f"'{types}'. The supported api-versions are '{', '.join(sorted(known))}'. "
            f"The supported locations are '{location}'.",
        )
    return version
