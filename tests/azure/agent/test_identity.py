"""Who this machine is, what is about to happen to it, and whose token ARM gets: against the twin."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bgp_agent.cloud import resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.clouds import PUBLIC, Cloud, cloud
from bgp_agent.cloud.credentials import Credential
from bgp_agent.cloud.errors import Denied, Trouble
from bgp_agent.cloud.imds import Imds, ImdsError
from bgp_agent.core.prefix import parse_address
from tests.azure.agent.conftest import SUBSCRIPTION, TABLE, Azure, Opened
from tests.azure.twin.lab.cloud import Cloud as TwinProcess


async def test_imds_tells_who_this_is(azure: Azure) -> None:
    found = await azure.imds.instance()
    assert (found.name, found.group, found.location) == ("a", "rg1", "westeurope")
    assert f"/subscriptions/{found.subscription}" == SUBSCRIPTION
    assert found.environment == "AzurePublicCloud"
    (interface,) = found.interfaces
    assert (interface.mac, interface.addresses) == ("000D3A2A0104", (parse_address("10.42.1.4"),))


async def test_a_scheduled_event_is_seen_approved_and_over(azure: Azure) -> None:
    assert (await azure.imds.events()).events == ()
    azure.schedule("Freeze", "a", "b")
    azure.schedule("Preempt", "c")
    freeze, preempt = (await azure.imds.events()).events
    assert (freeze.kind, freeze.status, freeze.machines, freeze.duration) == ("Freeze", "Scheduled", ("a", "b"), 5.0)
    assert preempt.machines == ("c",)
    assert preempt.not_before is not None
    assert -2 < preempt.not_before - time.time() - 30 < 2
    await azure.imds.start(freeze.id)
    started = next(each for each in (await azure.imds.events()).events if each.id == freeze.id)
    assert (started.status, started.not_before) == ("Started", None)
    azure.twin.advance(3600)
    assert (await azure.imds.events()).events == ()


async def test_imds_is_never_asked_through_a_proxy_and_neither_is_the_identity(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would answer for its own machine, or hear our tokens."""
    asked = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, place)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with server:
        assert (await azure.imds.instance()).name == "a"
        await azure.arm.credential.get_token_info(PUBLIC.scope)
        assert asked == []
        with pytest.raises(Trouble):  # ARM is asked through it, as people behind one need
            await resources.read_table(azure.arm, TABLE)
        assert asked


async def test_a_token_that_azure_refuses_is_replaced_at_once_but_not_again_and_again(azure: Azure) -> None:
    await resources.read_table(azure.arm, TABLE)
    azure.twin.order_tokens(expire=True, lifetime=None)
    await asyncio.sleep(0.01)  # tokens carry a time
    await resources.read_table(azure.arm, TABLE)
    azure.twin.order_tokens(expire=True, lifetime=None)
    with pytest.raises(Denied, match="ExpiredAuthenticationToken"):
        await resources.read_table(azure.arm, TABLE)
    azure.arm.credential._forgotten = float("-inf")  # a minute later
    await resources.read_table(azure.arm, TABLE)


async def test_azures_libraries_log_nothing_least_of_all_a_token(
    azure: Azure, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.DEBUG):
        token = (await azure.arm.credential.get_token_info(PUBLIC.scope)).token
        await resources.read_table(azure.arm, TABLE)
        monkeypatch.setenv("AZURE_CLIENT_ID", "nobody")
        async with Credential(azure.arm.cloud, azure.url) as credential:
            with pytest.raises(Denied):
                await credential.get_token_info(PUBLIC.scope)
    assert token not in caplog.text
    assert not [each.name for each in caplog.records if each.name.split(".")[0] in {"azure", "msal"}]


async def test_an_identity_that_the_machine_does_not_have_is_denied_and_imds_is_left_alone(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure = await opened()
    monkeypatch.setenv("AZURE_CLIENT_ID", "00000000-0000-0000-0000-00000000dead")
    before = len(azure.twin.imds._rates)
    with pytest.raises(Denied, match=r"managed identity.*not been assigned"):
        await resources.read_table(azure.arm, TABLE)
    assert len(azure.twin.imds._rates) == before + 1
    azure.twin.imds._rates.clear()
    with pytest.raises(Denied, match="not been assigned"):
        await resources.read_table(azure.arm, TABLE)
    assert not azure.twin.imds._rates  # the same answer, without asking


async def test_of_several_identities_the_one_that_the_environment_names_is_used(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = """
identities:
- {name: one, client_id: c1, object_id: d1, roles: []}
- {name: two, client_id: c2, object_id: d2}
"""
    azure = await opened(extra=several)
    with pytest.raises(Denied, match="Multiple user assigned identities"):
        await resources.read_table(azure.arm, TABLE)
    monkeypatch.setenv("AZURE_CLIENT_ID", "c2")
    async with Arm(azure.arm.cloud, Credential(azure.arm.cloud, azure.url), allow_http=True) as arm:
        await resources.read_table(arm, TABLE)


async def test_without_imds_there_is_no_token_and_no_verdict(azure: Azure) -> None:
    chosen = cloud(None, azure.url)
    async with Arm(chosen, Credential(chosen, "http://127.0.0.1:9"), allow_http=True) as arm:
        with pytest.raises(Trouble, match=r"no token of the managed identity: .*no response from the IMDS"):
            await resources.read_table(arm, TABLE)
    async with Imds("http://127.0.0.1:9", timeout=1) as imds:
        with pytest.raises(ImdsError, match="not an Azure VM, or IMDS is blocked"):
            await imds.instance()
        with pytest.raises(ImdsError, match="not an Azure VM, or IMDS is blocked"):
            await imds.events()


async def test_a_workload_identity_goes_first_and_says_what_its_environment_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AZURE_CLIENT_ID", raising=False)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "missing"))
    monkeypatch.delenv("AZURE_TENANT_ID", raising=False)
    credential = Credential(PUBLIC)
    assert credential.kind == "workload identity"
    with pytest.raises(Denied, match=r"AZURE_CLIENT_ID, AZURE_TENANT_ID is not set"):
        await credential.get_token_info(PUBLIC.scope)
    monkeypatch.setenv("AZURE_CLIENT_ID", "c1")
    monkeypatch.setenv("AZURE_TENANT_ID", "t1")
    credential = Credential(PUBLIC)
    with pytest.raises(Trouble, match="No such file"):
        await credential.get_token_info(PUBLIC.scope)
    await credential.close()


@pytest.mark.parametrize("scheme", ["http://arm.test", "http://169.254.169.254"])
def test_no_token_goes_over_plain_http_unless_told_so(scheme: str) -> None:
    chosen = Cloud(scheme, PUBLIC.scope, PUBLIC.authority)
    with pytest.raises(ValueError, match=r"plain http: use https, or set azure.allow_http"):
        Arm(chosen, Credential(chosen))


def jwt(**claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'RS256'})}.{part(claims)}.c2ln"


def test_a_workload_identity_reads_a_table_over_https(tmp_path: Path) -> None:
    """In a process of its own: the certificate is trusted through the environment, as an operator would."""
    certificate, key, token = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "token"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=twin", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    token.write_text(jwt(iss="https://issuer.test/", sub="agent", aud="api://AzureADTokenExchange", exp=2**31))
    port = free_port()
    config = f"""
timing: fast
fabric: {{mode: none}}
listen:
- {{address: '127.0.0.1:{port}', certificate: {certificate}, key: {key}}}
route_tables: [{{name: rt1}}]
identities:
- {{name: agent, client_id: c1, object_id: d1, federated: [{{issuer: 'https://issuer.test/', subject: agent}}]}}
"""
    story = f"""
    import asyncio
    from bgp_agent.cloud import resources
    from bgp_agent.cloud.arm import Arm
    from bgp_agent.cloud.clouds import cloud
    from bgp_agent.cloud.credentials import Credential
    from bgp_agent.cloud.ids import ResourceId

    async def main():
        chosen = cloud("AzurePublicCloud", "https://127.0.0.1:{port}")
        async with Arm(chosen, Credential(chosen)) as arm:
            table = await resources.read_table(arm, ResourceId("{TABLE}"))
            print(arm.credential.kind, table.state)

    asyncio.run(main())
    """
    twin = TwinProcess(tmp_path, config, free_port())
    try:
        environment = {
            "PATH": os.environ["PATH"],
            "SSL_CERT_FILE": str(certificate),
            "AZURE_FEDERATED_TOKEN_FILE": str(token),
            "AZURE_CLIENT_ID": "c1",
            "AZURE_TENANT_ID": "00000000-0000-0000-0000-00000000000a",
            "AZURE_AUTHORITY_HOST": f"https://127.0.0.1:{port}",
        }
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(story)], env=environment, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    finally:
        twin.close()
    assert done.stdout == "workload identity Succeeded\n", done.stderr[-2000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_agent_does_not_load_azure_where_it_is_not_configured() -> None:
    """And what only names values and errors loads nothing either."""
    code = (
        "import sys, bgp_agent.agent, bgp_agent.cloud.errors, bgp_agent.cloud.values, bgp_agent.cloud.imds, "
        "bgp_agent.cloud.clouds; print([each for each in sys.modules if each.split('.')[0] in ('azure', 'msal')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
