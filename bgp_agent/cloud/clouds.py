"""Azure's clouds: where each one's resource manager and login are, by the ``azEnvironment`` that IMDS tells.

Azure, Azure Government and Azure operated by 21Vianet (azure-mgmt-core ``get_arm_endpoints``, azure-identity
``AzureAuthorityHosts``). Any other one (air-gapped, a stand-in) has to be named by ``azure.arm_url``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Cloud:
    """``url`` of the resource manager, without a slash at its end; ``scope`` of its tokens; ``authority``: login."""

    url: str
    scope: str
    authority: str


PUBLIC: Final = Cloud(
    "https://management.azure.com", "https://management.azure.com/.default", "https://login.microsoftonline.com"
)
_GOVERNMENT: Final = Cloud(
    "https://management.usgovcloudapi.net",
    "https://management.core.usgovcloudapi.net/.default",
    "https://login.microsoftonline.us",
)
_CHINA: Final = Cloud(
    "https://management.chinacloudapi.cn",
    "https://management.chinacloudapi.cn/.default",
    "https://login.chinacloudapi.cn",
)
_CLOUDS: Final = {
    "azurepubliccloud": PUBLIC,
    "azurecloud": PUBLIC,
    "azureusgovernmentcloud": _GOVERNMENT,
    "azureusgovernment": _GOVERNMENT,
    "azurechinacloud": _CHINA,
}


def cloud(environment: str | None, arm_url: str | None = None) -> Cloud:
    """The cloud of an ``azEnvironment`` (None: not known, so the public one); ``arm_url`` replaces its address.

    Raises :class:`ValueError` with what to configure for one that is not known.
    """
    known = PUBLIC if not environment else _CLOUDS.get(environment.lower())
    if arm_url is None:
        if known is None:
            raise ValueError(f"the cloud {environment!r} is not known: set azure.arm_url to its resource manager")
        return known
    url = arm_url.rstrip("/")
    if known is None:
        return Cloud(url, f"{url}/.default", PUBLIC.authority)
    return Cloud(url, known.scope, known.authority)
