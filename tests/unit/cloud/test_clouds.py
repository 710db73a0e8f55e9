from __future__ import annotations

import pytest

from bgp_agent.cloud.clouds import PUBLIC, cloud


@pytest.mark.parametrize(
    ("environment", "host", "login"),
    [
        ("AzurePublicCloud", "management.azure.com", "login.microsoftonline.com"),
        ("AzureUSGovernmentCloud", "management.usgovcloudapi.net", "login.microsoftonline.us"),
        ("AzureChinaCloud", "management.chinacloudapi.cn", "login.chinacloudapi.cn"),
        (None, "management.azure.com", "login.microsoftonline.com"),
    ],
)
def test_each_cloud_has_its_own_manager_and_login(environment: str | None, host: str, login: str) -> None:
    found = cloud(environment)
    assert (found.url, found.authority) == (f"https://{host}", f"https://{login}")
    assert found.scope.endswith("/.default")


def test_another_address_keeps_the_clouds_tokens() -> None:
    found = cloud("AzurePublicCloud", "https://private.example/")
    assert (found.url, found.scope) == ("https://private.example", PUBLIC.scope)


def test_a_cloud_that_is_not_known_is_asked_for_by_its_key() -> None:
    with pytest.raises(ValueError, match=r"'USNat' is not known: set azure\.arm_url"):
        cloud("USNat")
    assert cloud("USNat", "https://arm.nat/").scope == "https://arm.nat/.default"
