"""Access tokens: issued by IMDS and the token endpoint, asked of every ARM request.

Shaped as a JWT with the claims that clients read (``az`` wants tid, oid, appid, xms_mirid, exp). Signed with a secret
of the twin's own (HS256): clients treat an access token as opaque, only the twin checks it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final, TypeVar

import msgspec

from azure_twin.core.errors import ArmError, Json
from azure_twin.core.rbac import Principal

ClaimsT = TypeVar("ClaimsT")

LIFETIME: Final = 86_400.0  # seconds; managed identities get tokens for 24 hours
MAX_TOKEN: Final = 16_384
_HEADER: Final = {"alg": "HS256", "typ": "JWT", "kid": "azure-twin"}


class Jwk(msgspec.Struct, frozen=True, kw_only=True):
    """A public RSA key of an issuer, as its ``jwks`` document shows it (RFC 7517)."""

    n: str
    e: str
    kid: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no RSA key, where it is configured."""
        if self.modulus.bit_length() < 1024 or not 3 <= self.exponent < 1 << 32:
            raise ValueError("n and e are not those of an RSA key (at least 1,024 bits)")

    @property
    def modulus(self) -> int:
        """``n`` as a number."""
        return int.from_bytes(decoded(self.n), "big")

    @property
    def exponent(self) -> int:
        """``e`` as a number."""
        return int.from_bytes(decoded(self.e), "big")


class Federated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A federated credential: whose tokens may be exchanged for one of the identity.

    With the issuer's ``keys`` (``kubectl get --raw /openid/v1/jwks``) signatures are checked.
    """

    issuer: str
    subject: str
    audience: str = "api://AzureADTokenExchange"
    keys: list[Jwk] = []


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A managed identity or an application with federated credentials."""

    name: str
    client_id: str
    object_id: str
    federated: list[Federated] = []
    #: Role names (built-in) or lists of actions, with the scope where each holds; default: Owner of the subscription.
    roles: list[Json] | None = None


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims the twin reads back."""

    oid: str
    appid: str
    exp: float
    iat: float
    aud: str = ""


class Tokens:
    """Issues and checks; ``revoked_before`` makes older tokens expired (a fault on demand)."""

    def __init__(self, secret: bytes, tenant: str, subscription: str) -> None:
        self.secret = secret
        self.tenant = tenant
        self.subscription = subscription
        self.lifetime = LIFETIME
        self.revoked_before = 0.0

    def issue(self, identity: Identity, audience: str, now: float) -> Json:
        """The token answer of IMDS: all values are strings."""
        expires = now + self.lifetime
        mirid = (
            f"/subscriptions/{self.subscription}/resourcegroups/identities/providers/"
            f"Microsoft.ManagedIdentity/userAssignedIdentities/{identity.name}"
        )
        claims: Json = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{self.tenant}/",
            "iat": now,
            "nbf": int(now),
            "exp": int(expires),
            "appid": identity.client_id,
            "oid": identity.object_id,
            "sub": identity.object_id,
            "tid": self.tenant,
            "xms_mirid": mirid,
            "ver": "1.0",
            "idtyp": "app",
        }
        return {
            "access_token": self._encode(claims),
            "client_id": identity.client_id,
            "expires_in": str(int(self.lifetime)),
            "expires_on": str(int(expires)),
            "ext_expires_in": str(int(self.lifetime)),
            "not_before": str(int(now)),
            "resource": audience,
            "token_type": "Bearer",
        }

    def check(self, authorization: str, now: float) -> Principal:
        """The principal of an ``Authorization`` header; raises 401 with the reason."""
        scheme, _, token = authorization.partition(" ")
        if not token or scheme.lower() != "bearer":
            raise self._refused(
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing or not a bearer token.",
            )
        claims = self._decode(token.strip())
        if claims is None:
            raise self._refused("InvalidAuthenticationToken", "The access token is invalid.")
        if claims.exp <= now or claims.iat < self.revoked_before:
            raise self._refused(
                "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time."
            )
        return Principal(claims.oid, claims.appid)

    def _refused(self, code: str, message: str) -> ArmError:
        challenge = (
            f'Bearer authorization_uri="https://login.windows.net/{self.tenant}", error="invalid_token", '
            f'error_description="{message}"'
        )
        return ArmError(401, code, message, headers={"WWW-Authenticate": challenge})

    def _sign(self, signed: bytes) -> str:
        return _b64(hmac.new(self.secret, signed, hashlib.sha256).digest())

    def _encode(self, claims: Json) -> str:
        signed = f"{_b64(msgspec.json.encode(_HEADER))}.{_b64(msgspec.json.encode(claims))}"
        return f"{signed}.{self._sign(signed.encode())}"

    def _decode(self, token: str) -> Claims | None:
        signed, _, signature = token.rpartition(".")
        if (
            len(token) > MAX_TOKEN
            or not token.isascii()
            or not hmac.compare_digest(self._sign(signed.encode()), signature)
        ):
            return None
        return claims_of(token, Claims)


def claims_of(token: str, kind: type[ClaimsT]) -> ClaimsT | None:
    """The claims of a JWT without a look at its signature; ``None`` for anything that is not one."""
    try:
        return msgspec.json.decode(decoded(token.split(".")[1]), type=kind)
    except (IndexError, ValueError, msgspec.DecodeError):
        return None


def decoded(text: str) -> bytes:
    """Base64url without padding (RFC 7515); raises :class:`ValueError`."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
