"""The token endpoint for federated workloads: claims, times, and the issuer's signature, made here by OpenSSL."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from azure_twin.config import ConfigError
from azure_twin.core.messages import Request, Response
from hypothesis import given
from hypothesis import strategies as st

from tests.azure.twin.arm_client import BASE, Client, body

FEDERATED = """
identities:
- {name: two, client_id: c2, object_id: d2, federated: [{issuer: i, subject: s KEYS}]}
"""
TENANT = "00000000-0000-0000-0000-00000000000a"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """A key pair, and tokens signed with it."""

    def __init__(self, folder: Path, bits: int = 2048) -> None:
        self.key = folder / f"key{bits}"
        subprocess.run(["openssl", "genrsa", "-out", self.key, str(bits)], check=True, capture_output=True)
        shown = subprocess.run(
            ["openssl", "rsa", "-in", self.key, "-noout", "-modulus"], check=True, capture_output=True, text=True
        )
        modulus = bytes.fromhex(shown.stdout.strip().removeprefix("Modulus="))
        self.jwk = {"kty": "RSA", "alg": "RS256", "kid": "k1", "n": b64(modulus), "e": "AQAB"}

    def sign(self, data: bytes) -> bytes:
        return subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key], input=data, check=True, capture_output=True
        ).stdout


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture
def trusting(configured: Callable[..., Client], issuer: Issuer) -> Client:
    """A twin that knows the issuer's key."""
    return configured(extra=FEDERATED.replace("KEYS", f", keys: [{json.dumps(issuer.jwk)}]"))


def assertion(client: Client, issuer: Issuer | None = None, header: object = None, **claims: object) -> str:
    held = {"iss": "i", "sub": "s", "aud": ["api://AzureADTokenExchange"], "exp": client.time + 60} | claims
    header = header or {"alg": "RS256", "kid": "k1"}
    data = ".".join(b64(json.dumps(each).encode()) for each in (header, held))
    return f"{data}.{b64(issuer.sign(data.encode()) if issuer else b'x')}"


def exchange(client: Client, token: str, tenant: str = TENANT, **fields: str) -> Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": "c2",
        "scope": "https://management.azure.com/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": token,
    } | fields
    path = f"/{tenant}/oauth2/v2.0/token"
    return client.twin.serve(Request("POST", path, {}, {}, urlencode(form).encode()), control=False)


def refusal(answer: Response) -> str:
    assert answer.status in {400, 401}
    return str(body(answer)["error_description"]).split(":")[0]


def test_a_token_that_its_issuer_signed_opens_arm(trusting: Client, issuer: Issuer) -> None:
    answer = body(exchange(trusting, assertion(trusting, issuer)))
    assert trusting.ask("GET", "routeTables/rt1", token=str(answer["access_token"])).status == 200


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "other"}, "AADSTS700211"),
        ({"aud": "other"}, "AADSTS700212"),
        ({"sub": "other"}, "AADSTS700213"),
        ({"exp": 1}, "AADSTS700024"),
        ({"nbf": 9e9}, "AADSTS700024"),
        ({"exp": "soon"}, "AADSTS50027"),
    ],
)
def test_claims_that_are_not_the_configured_ones_are_refused(
    trusting: Client, issuer: Issuer, claims: dict[str, object], why: str
) -> None:
    assert refusal(exchange(trusting, assertion(trusting, issuer, **claims))) == why


def test_a_token_that_somebody_else_signed_or_changed_is_refused(
    trusting: Client, issuer: Issuer, tmp_path: Path
) -> None:
    stranger = Issuer(tmp_path)
    assert refusal(exchange(trusting, assertion(trusting, stranger))) == "AADSTS50013"
    assert refusal(exchange(trusting, assertion(trusting))) == "AADSTS50013"
    good = assertion(trusting, issuer).split(".")
    later = assertion(trusting, issuer, exp=trusting.time + 9999).split(".")
    assert refusal(exchange(trusting, ".".join([good[0], later[1], good[2]]))) == "AADSTS50013"
    assert refusal(exchange(trusting, assertion(trusting, issuer, {"alg": "none", "kid": "k1"}))) == "AADSTS50013"
    assert refusal(exchange(trusting, assertion(trusting, issuer, {"alg": "RS256", "kid": "k2"}))) == "AADSTS50013"
    assert exchange(trusting, assertion(trusting, issuer, {"alg": "RS256"})).status == 200


def test_without_the_issuers_keys_the_claims_alone_count(configured: Callable[..., Client]) -> None:
    client = configured(extra=FEDERATED.replace("KEYS", ""))
    assert exchange(client, assertion(client)).status == 200


def test_another_tenant_application_or_grant_is_refused(trusting: Client, issuer: Issuer) -> None:
    token = assertion(trusting, issuer)
    assert refusal(exchange(trusting, token, tenant="other")) == "AADSTS90002"
    assert refusal(exchange(trusting, token, client_id="c9")) == "AADSTS700016"
    assert refusal(exchange(trusting, token, grant_type="password")) == "AADSTS70003"
    assert refusal(exchange(trusting, token, client_assertion_type="secret")) == "AADSTS7000216"


@pytest.mark.parametrize("key", ['{n: "", e: AQAB}', "{n: AQAB, e: AQAB}", '{n: "é", e: AQAB}', "{e: AQAB}"])
def test_a_key_that_is_none_is_refused_where_it_is_configured(configured: Callable[..., Client], key: str) -> None:
    with pytest.raises(ConfigError, match="keys"):
        configured(extra=FEDERATED.replace("KEYS", f", keys: [{key}]"))


@given(st.text(max_size=200))
def test_no_text_is_taken_for_a_token(text: str) -> None:
    from azure_twin.config import parse  # noqa: PLC0415

    client = _CACHE.get("client") or _CACHE.setdefault(
        "client", Client(parse(BASE.replace("{TIMING}", "fast") + FEDERATED.replace("KEYS", "")))
    )
    assert refusal(exchange(client, text)) == "AADSTS50027"


_CACHE: dict[str, Client] = {}
