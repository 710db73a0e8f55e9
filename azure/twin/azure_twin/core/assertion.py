"""A federated token (client assertion): whether an identity has it as credential, and whether its issuer signed it.

Claims are compared as Microsoft Entra does (issuer, subject, audience, times). The signature is checked with the keys
that the configuration has for the issuer: RS256 (RFC 7518 section 3.3), which is what Kubernetes signs with. Without
keys there is nobody to ask for them here, and the signature is taken for good.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import msgspec

from azure_twin.core.tokens import MAX_TOKEN, Federated, Jwk, claims_of, decoded

#: DER of DigestInfo for SHA-256 up to the digest (RFC 8017 section 9.2).
_SHA256: Final = bytes.fromhex("3031300d060960864801650304020105000420")
SKEW: Final = 300.0  # seconds that clocks may differ (assumed; Entra's documented tolerance for other tokens)


class Refused(ValueError):  # noqa: N818  # the outcome of a check, not a fault
    """Why a client assertion is refused, with Entra's code."""


class Claims(msgspec.Struct, frozen=True):
    """The claims of a federated token."""

    iss: str
    sub: str
    exp: float
    aud: str | list[str] = ""
    nbf: float = 0.0


class _Header(msgspec.Struct, frozen=True):
    alg: str = ""
    kid: str = ""


def check(token: str, credentials: Iterable[Federated], now: float) -> None:
    """Raise :class:`Refused` unless one of the credentials fits and the token is valid now."""
    claims = claims_of(token, Claims) if len(token) <= MAX_TOKEN else None
    if claims is None:
        raise Refused("AADSTS50027: JWT token is invalid or malformed.")
    if claims.exp <= now or claims.nbf > now + SKEW:
        raise Refused("AADSTS700024: Client assertion is not within its valid time range.")
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    unmatched = "No matching federated identity record found for presented assertion"
    left = [each for each in credentials if each.issuer == claims.iss]
    if not left:
        raise Refused(f"AADSTS700211: {unmatched} issuer '{claims.iss[:256]}'.")
    left = [each for each in left if each.subject == claims.sub]
    if not left:
        raise Refused(f"AADSTS700213: {unmatched} subject '{claims.sub[:256]}'.")
    left = [each for each in left if each.audience in audiences]
    if not left:
        raise Refused(f"AADSTS700212: {unmatched} audience '{','.join(audiences)[:256]}'.")
    if all(each.keys for each in left) and not any(signed(token, each.keys) for each in left):
        raise Refused("AADSTS50013: Assertion failed signature validation.")


def signed(token: str, keys: Iterable[Jwk]) -> bool:
    """Whether one of the keys signed the token (RS256)."""
    head, _, signature = token.rpartition(".")
    try:
        header = msgspec.json.decode(decoded(token.partition(".")[0]), type=_Header)
        found = decoded(signature)
    except (ValueError, msgspec.DecodeError):
        return False
    if header.alg != "RS256":
        return False
    usable = [each for each in keys if not header.kid or not each.kid or each.kid == header.kid]
    return any(_verify(each, head.encode(), found) for each in usable)


def _verify(key: Jwk, data: bytes, signature: bytes) -> bool:
    """RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.2): the whole encoded message is compared, never parsed."""
    size = (key.modulus.bit_length() + 7) // 8
    if len(signature) != size:
        return False
    opened = pow(int.from_bytes(signature, "big"), key.exponent, key.modulus).to_bytes(size, "big")
    ending = b"\0" + _SHA256 + hashlib.sha256(data).digest()
    return hmac.compare_digest(opened, b"\0\1" + b"\xff" * (size - 2 - len(ending)) + ending)
