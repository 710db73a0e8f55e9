"""Microsoft Entra's token endpoint as far as workload identity federation needs it; ARM's description of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs

from azure_twin.core import assertion
from azure_twin.core.errors import Json
from azure_twin.core.messages import Request, Response
from azure_twin.core.tokens import Identity, Tokens

ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def token(request: Request, tokens: Tokens, identities: Iterable[Identity], now: float) -> Response:
    """``POST /{tenant}/oauth2/v2.0/token`` with a client assertion."""
    tenant = request.path.split("/")[1]
    if tenant.lower() not in {tokens.tenant.lower(), "common", "organizations"}:
        return _refused("invalid_request", f"AADSTS90002: Tenant '{tenant[:64]}' not found.")
    form = {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
    if form.get("grant_type") != "client_credentials":
        return _refused("unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
    identity = next((each for each in identities if each.client_id == form.get("client_id")), None)
    if identity is None:
        return _refused(
            "unauthorized_client",
            f"AADSTS700016: Application with identifier '{form.get('client_id', '')[:64]}' was not found.",
        )
    if form.get("client_assertion_type") != ASSERTION:
        return _refused("invalid_client", "AADSTS7000216: 'client_assertion' or 'client_secret' is required.")
    try:
        assertion.check(form.get("client_assertion", ""), identity.federated, now)
    except assertion.Refused as error:
        return _refused("invalid_client", str(error))
    scope = form.get("scope", "").removesuffix("/.default") or "https://management.azure.com"
    issued = tokens.issue(identity, scope, now)
    return Response(
        200,
        {
            "token_type": "Bearer",
            "expires_in": int(tokens.lifetime),
            "ext_expires_in": int(tokens.lifetime),
            "access_token": issued["access_token"],
        },
    )


def _refused(code: str, text: str) -> Response:
    return Response(
        401 if code == "invalid_client" else 400, {"error": code, "error_description": text, "error_codes": []}
    )


def openid(base: str, tenant: str) -> Json:
    """``/{tenant}/v2.0/.well-known/openid-configuration``."""
    return {
        "token_endpoint": f"{base}/{tenant}/oauth2/v2.0/token",
        "issuer": f"{base}/{tenant}/v2.0",
        "authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/devicecode",
        "tenant_region_scope": "EU",
    }


def endpoints(base: str) -> Json:
    """``/metadata/endpoints``: what ``az cloud register`` reads (api-version 2022-09-01)."""
    host = base.split("://", 1)[-1]
    return {
        "name": "AzureTwin",
        "portal": base,
        "graph": base,
        "graphAudience": base,
        "microsoftGraphResourceId": base,
        "authentication": {
            "loginEndpoint": base,
            "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "media": base,
        "batch": base,
        "gallery": base,
        "sqlManagement": base,
        "vmImageAliasDoc": base,
        "activeDirectoryDataLake": base,
        "resourceManager": base,
        "suffixes": {
            "storage": f"storage.{host}",
            "keyVaultDns": f"vault.{host}",
            "sqlServerHostname": f"database.{host}",
            "acrLoginServer": f"acr.{host}",
            "mhsmDns": f"managedhsm.{host}",
        },
    }
