"""The scripts of `azure/` with the real `az`: from a subscription without a network to pods that ping, and back.

Judged by the twin's BIRDs, by packets, and by the requests that the twin counted; the words are those of
`docs/how-to/azure.md`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.asking import Wanted
from bgp_agent.cloud.clouds import cloud
from bgp_agent.cloud.credentials import Credential
from bgp_agent.cloud.discovery import discover
from bgp_agent.cloud.imds import Imds
from tests.azure.twin.lab.cloud import Cloud

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-cli"), pytest.mark.timeout(1800)]

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "how-to" / "azure.md").read_text()
AGENT: Final = "00000000-0000-0000-0000-0000000000d2"
WRITES: Final = ("PUT", "PATCH", "DELETE")
CONFIG: Final = f"""
timing: {{preset: fast, route_server: 2, bgp_connection: 1, bgp_connection_delete: 1}}
throttling: {{enabled: false}}
limits: {{imds_per_second: 0, identity_per_second: 0}}
resource_group: unused
vms:
- {{name: a, nic: node-a-nic}}
- {{name: b, nic: node-b-nic}}
identities:
- {{name: owner, client_id: 00000000-0000-0000-0000-0000000000c1, object_id: 00000000-0000-0000-0000-0000000000d1}}
- {{name: nodes, client_id: 00000000-0000-0000-0000-0000000000c2, object_id: {AGENT}, roles: []}}
listen:
- 169.254.169.254:80
- {{address: '127.0.0.1:8443', certificate: CERT, key: KEY}}
"""


def steps(heading: str) -> list[str]:
    """The commands of a section of the page: its ``bash`` blocks, a command a line after joining."""
    section = re.search(rf"^## {re.escape(heading)}.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, heading
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", section[0], re.MULTILINE | re.DOTALL))
    return [line for line in blocks.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


class Deployment:
    """A twin, and a shell with a logged-in `az`, in the root of the source tree."""

    def __init__(self, twin: Cloud, clients: Path, folder: Path) -> None:
        self.twin = twin
        self.environment = os.environ | {
            "PATH": f"{clients / 'bin'}:{os.environ['PATH']}",
            "REQUESTS_CA_BUNDLE": str(folder / "cert.pem"),
            "AZURE_CONFIG_DIR": str(folder / "azure"),
            "AZURE_CORE_COLLECT_TELEMETRY": "no",
            "AZURE_CORE_NO_COLOR": "yes",
            "NO_PROXY": "*",
            "AZ_PAUSE": "0.3",
            "IDENTITY": AGENT,
        }

    def run(self, command: str, code: int = 0) -> str:
        """What a command says, on both streams; it has to end with ``code``."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], env=self.environment, cwd=ROOT, timeout=900, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == code, (command, done.stdout[-3000:])
        return done.stdout

    def walk(self, *headings: str) -> list[str]:
        """Do what the page says; what each script said."""
        return [self.run(each) for heading in headings for each in steps(heading)]

    def writes(self) -> int:
        """How many requests have asked for a change."""
        counted: dict[str, int] = self.twin.status()["requests"]
        return sum(counted.get(each, 0) for each in WRITES)

    def resources(self) -> int:
        """How many resources there are, of whatever kind."""
        found: int = self.twin.status()["resources"]
        return found


@pytest.fixture
def empty(clients: Path, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Start a twin with two machines and nothing in its subscription; log in."""
    made: list[Cloud] = []
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=twin", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["ip", "address", "replace", "169.254.169.254/32", "dev", "lo"], check=True)

    def start(extra: str = "") -> Deployment:
        config = CONFIG.replace("CERT", str(certificate)).replace("KEY", str(key))
        made.append(Cloud(tmp_path, config + extra))
        started = Deployment(made[-1], clients, tmp_path)
        started.run(
            "az cloud register -n Twin --endpoint-resource-manager https://127.0.0.1:8443 && az cloud set -n Twin"
        )
        started.run("az login --identity --client-id 00000000-0000-0000-0000-0000000000c1")
        return started

    yield start
    for each in made:
        each.close()
    subprocess.run(["ip", "address", "delete", "169.254.169.254/32", "dev", "lo"], check=False)


SET_UP: Final = ("2. Route Server", "3. Peerings", "4. Route table", "5. IP forwarding", "7. Role and identity")


async def test_from_an_empty_subscription_to_pods_that_ping_and_back(
    empty: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    azure = empty()
    twin = azure.twin
    azure.walk("1. Network and nodes")
    before = azure.resources()
    forwarding_off = links(twin)
    assert forwarding_off == {"node-a-nic": False, "node-b-nic": False}

    # Looking first: nothing is written.
    written = azure.writes()
    for step in steps(SET_UP[0]):
        assert "would run: az" in azure.run(f"{step} --dry-run")
    assert azure.writes() == written

    said = azure.walk(*SET_UP)
    assert "address 10.42.0.4\naddress 10.42.0.5" in said[0]
    assert links(twin) == {"node-a-nic": True, "node-b-nic": True}
    for vm, block, asn in (("a", "192.168.1.0/26", 64512), ("b", "192.168.2.0/26", 64512)):
        twin.bird(vm, [block], asn=asn, options="allow local as 1;")
        twin.pod(vm, block.replace("0/26", "7"))
    twin.until("pods ping", lambda: twin.reaches("a", "192.168.2.7", "192.168.1.7"))
    assert twin.reaches("b", "192.168.1.7", "192.168.2.7")

    # The agent's own eyes, with nothing but the role.
    monkeypatch.setenv("AZURE_CLIENT_ID", "00000000-0000-0000-0000-0000000000c2")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", twin.url)
    chosen = cloud(None, twin.url)
    async with Imds(twin.url) as imds, Arm(chosen, Credential(chosen, twin.url), allow_http=True) as arm:
        found = await discover(imds, arm, Wanted())
    assert (found.missing, found.asn) == ((), 64512)
    assert [each.id.rpartition("/")[2] for each in found.tables] == ["bgp-agent"]

    # Once more: nothing is written.
    written = azure.writes()
    again = azure.walk(*SET_UP)
    assert all("everything is as it should be" in each for each in again), again
    assert azure.writes() == written

    # A stranger's peering stops the removal before anything is changed.
    theirs = "-g pods --routeserver route-server -n theirs"
    azure.run(f"az network routeserver peering create {theirs} --peer-ip 10.42.1.200 --peer-asn 64999 -o none")
    written = azure.writes()
    (remove,) = steps("Take it out again")
    assert "peerings that are not named here: theirs" in azure.run(remove, code=1)
    assert azure.writes() == written
    azure.run(f"az network routeserver peering delete {theirs} --yes")
    azure.run(remove)
    assert azure.resources() == before
    assert links(twin) == forwarding_off
    written = azure.writes()
    assert "nothing was changed" in azure.run(remove)
    assert azure.writes() == written


def links(twin: Cloud) -> dict[str, bool]:
    """Whether each machine's interface forwards."""
    return {each["nic"]: each["ip_forwarding"] for each in twin.settled()["links"]}


def test_a_failed_peering_is_written_again_and_a_ninth_is_refused_before_any_write(
    empty: Callable[..., Deployment],
) -> None:
    azure = empty()
    azure.walk("1. Network and nodes", "2. Route Server")
    azure.twin.twin(
        "POST", "faults", {"kind": "fail", "method": "PUT", "path": "*/bgpConnections/*", "code": "InternalServerError"}
    )
    azure.twin.twin("POST", "faults", {"kind": "answer", "method": "PUT", "path": "*/bgpConnections/*", "status": 409,
                                       "code": "AnotherOperationInProgress"})  # fmt: skip
    peer = "azure/peerings.sh -g pods --asn 64512"
    said = azure.run(f"{peer} --node a=10.42.1.4")
    assert "bgp-agent-a is Failed: it is written again" in said
    shown = "az network routeserver peering show -g pods --routeserver route-server -n bgp-agent-a"
    assert azure.run(f"{shown} --query provisioningState -o tsv").strip() == "Succeeded"
    written = azure.writes()
    nine = " ".join(f"--node n{index}=10.42.1.{index}" for index in range(10, 18))
    assert "1 peers too many" in azure.run(f"{peer} {nine}", code=1)
    assert "is reserved" in azure.run(f"{peer.replace('64512', '65515')} --node a=10.42.1.4", code=1)
    assert azure.writes() == written


def test_somebody_elses_table_address_and_subnet_are_refused_with_the_remedy(empty: Callable[..., Deployment]) -> None:
    azure = empty()
    azure.walk("1. Network and nodes")
    azure.run("az network route-table create -g pods -n theirs --disable-bgp-route-propagation true -o none")
    written = azure.writes()
    table = "azure/route-table.sh -g pods --vnet cluster --subnet nodes"
    assert "--disable-bgp-route-propagation false" in azure.run(f"{table} --name theirs", code=1)
    assert "is none of nodes" in azure.run("azure/route-table.sh -g pods --vnet cluster --subnet GatewaySubnet", code=1)
    assert "there is no such virtual network" in azure.run("azure/route-server.sh -g pods --vnet none", code=1)
    assert "there is no such Route Server" in azure.run(
        "azure/peerings.sh -g pods --asn 64512 --node a=10.42.1.4", code=1
    )
    assert "there is no such network interface" in azure.run("azure/ip-forwarding.sh -g pods --nic none", code=1)
    assert azure.writes() == written
    azure.run("az network vnet subnet update -g pods --vnet-name cluster -n nodes --route-table theirs -o none")
    assert "has another route table" in azure.run(table, code=1)


@pytest.mark.parametrize("script", sorted(each.name for each in (ROOT / "azure").glob("*.sh") if each.name != "lib.sh"))
def test_each_script_tells_its_options_and_refuses_unknown_ones(script: str) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([ROOT / "azure" / script, *words], capture_output=True, text=True, check=False)

    told = run("--help")
    assert told.returncode == 0
    assert "--resource-group" in told.stdout
    assert "$AZ_RESOURCE_GROUP" in told.stdout
    refused = run("--nothing")
    assert refused.returncode == 2
    assert "remedy:" in refused.stderr
