"""Microsoft Entra's token endpoint, as far as workload identity federation needs it, and ARM's description of itself.

The assertion's issuer, subject and audience must be ones that an identity has as federated credential. Its signature
is not checked: there is no issuer here to ask for keys (assumed to be good).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs

import msgspec

from azure_twin.core.errors import Json
from azure_twin.core.messages import Request, Response
from azure_twin.core.tokens import Identity, Tokens, claims_of

AUDIENCE: Final = "api://AzureADTokenExchange"
ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Assertion(msgspec.Struct):
    """The claims of a federated token."""

    iss: str
    sub: str
    exp: float
    aud: str | list[str] = ""


def token(request: Request, tokens: Tokens, identities: Iterable[Identity], now: float) -> Response:
    """``POST /{tenant}/oauth2/v2.0/token`` with a client assertion."""
    form = {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
    if form.get("grant_type") != "client_credentials":
        return _refused("unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
    identity = next((each for each in identities if each.client_id == form.get("client_id")), None)
    if identity is None:
        return _refused(
            "unauthorized_client",
            f"AADSTS700016: Application with identifier '{form.get('client_id', '')[:64]}' was not found.",
        )
    claims = claims_of(form.get("client_assertion", ""), Assertion)
    if form.get("client_assertion_type") != ASSERTION or claims is None:
        return _refused("invalid_client", "AADSTS50027: JWT token is invalid or malformed.")
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if claims.exp <= now:
        return _refused("invalid_client", "AADSTS700024: Client assertion is not within its valid time range.")
    if AUDIENCE not in audiences or {"issuer": claims.iss, "subject": claims.sub} not in identity.federated:
        return _refused(
            "invalid_client",
            "AADSTS700213: No matching federated identity record found for presented assertion subject "
            f"'{claims.sub}'.",
        )
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
