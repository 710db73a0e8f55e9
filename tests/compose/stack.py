"""docker-compose.yml up, on a Docker daemon of the test's own; asked from outside."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from lab.compose.engine import ROOT, Engine
from lab.netns import Namespace, wait_for

NETWORK: Final = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.Network"
SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PORTS: Final = {"azure": 9180, "node-a": 9181, "node-b": 9182, "node-c": 9183}
#: Block -> address of the node that owns it.
BLOCKS: Final = {
    "192.168.1.0/26": "10.42.1.4", "192.168.1.64/26": "10.42.1.4",
    "192.168.2.0/26": "10.42.1.5", "192.168.3.0/26": "10.42.2.4",
}  # fmt: skip
NODES: Final = {"node-a": "10.42.1.4", "node-b": "10.42.1.5", "node-c": "10.42.2.4"}
PODS: Final = {"pod-a": "192.168.1.2", "pod-b": "192.168.2.2", "pod-c": "192.168.3.2"}
INSTANCES: Final = {"rs0": "10.42.0.4", "rs1": "10.42.0.5"}


class Inside(Namespace):
    """The network of a running process."""

    def __init__(self, pid: int) -> None:
        super().__init__(str(pid))
        self.path = Path(f"/proc/{pid}/ns/net")


class Stack:
    """The containers of docker-compose.yml."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._token = ""

    def compose(self, *words: str, timeout: float = 120.0) -> str:
        """Run ``docker-compose WORDS``."""
        return self.engine.call("docker-compose", "--project-name", "lab", *words, timeout=timeout)

    def up(self) -> None:
        """Everything, until every container that can say so is healthy."""
        self.compose("up", "--detach", "--no-build", timeout=240)
        self.until("every container is healthy", lambda: not self.unwell(), 120)

    def down(self) -> None:
        """Nothing of it, its volumes neither."""
        self.compose("down", "--volumes", "--timeout", "10")

    def until(self, what: str, condition: Callable[[], object], timeout: float = 30.0) -> None:
        """Wait for a condition that asks the containers; when it does not come true, their logs are in the error."""
        try:
            wait_for(what, lambda: self._true(condition), timeout, 0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('logs', '--no-color', '--tail', '40')[-20000:]}") from None

    @staticmethod
    def _true(condition: Callable[[], object]) -> bool:
        try:
            return bool(condition())
        except (OSError, ValueError):
            return False

    # --- containers --------------------------------------------------------------------------------------------------
    def container(self, service: str) -> Any:  # noqa: ANN401 - parsed JSON
        """What the engine knows of a service's container."""
        return json.loads(self.engine.docker("inspect", f"lab_{service}_1"))[0]

    def unwell(self) -> dict[str, str]:
        """The services that do not run, or are not healthy."""
        form = "{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}"
        names = (f"lab_{service}_1" for service in SERVICES)
        states = (line.split(None, 1) for line in self.engine.docker("inspect", "--format", form, *names).splitlines())
        return {name.strip("/"): state for name, state in states if state != "running healthy"}

    def inside(self, service: str) -> Namespace:
        """The network of a container."""
        return Inside(self.container(service)["State"]["Pid"])

    def execute(self, service: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, to its end."""
        return subprocess.run(
            ["docker", "exec", f"lab_{service}_1", *words], env=self.engine.environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    # --- what they answer --------------------------------------------------------------------------------------------
    def get(self, service: str, path: str, **headers: str) -> Any:  # noqa: ANN401 - parsed JSON
        """GET from what is published on this machine's loopback."""
        request = urllib.request.Request(f"http://127.0.0.1:{PORTS[service]}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return json.loads(answer.read())

    def status(self, node: str) -> Any:  # noqa: ANN401 - parsed JSON
        """``/status`` of a node."""
        return self.get(node, "/status")

    def has_learned(self, node: str, count: int) -> bool:
        """Has a node that many learned routes in its kernel."""
        return bool(self.status(node)["kernel"]["installed"] == count)

    def sessions(self) -> set[tuple[str, str]]:
        """Node and peer of each established session."""
        states = ((node, peer, state) for node in NODES for peer, state in peers(self.status(node)).items())
        return {(node, peer) for node, peer, state in states if state == "established"}

    def modes(self) -> set[str]:
        """What attracts traffic now, in the words of all nodes."""
        return {self.status(node)["mode"] for node in NODES}

    def by_bgp_alone(self) -> bool:
        """Does every node say so, and is the table empty."""
        told = (self.status(node) for node in NODES)
        return not self.table() and all(
            each["mode"] == each["fallback"]["state"] == "bgp" and not each["fallback"]["routes"] for each in told
        )

    def table(self) -> dict[str, str]:
        """The routes of the table as ARM shows them: prefix -> next hop."""
        if not self._token:
            query = "api-version=2018-02-01&resource=https://management.azure.com/"
            answer = self.get("azure", f"/metadata/identity/oauth2/token?{query}", Metadata="true")
            self._token = answer["access_token"]
        path = f"{NETWORK}/routeTables/nodes?api-version=2024-05-01"
        routes = self.get("azure", path, Authorization=f"Bearer {self._token}")["properties"]["routes"]
        properties = (each["properties"] for each in routes)
        return {each["addressPrefix"]: each.get("nextHopIpAddress", each["nextHopType"]) for each in properties}

    def instances(self) -> list[bool]:
        """Which instances are up, in the word of the twin."""
        return [each["up"] for each in self.get("azure", "/twin/status")["instances"]]


def peers(status: Any) -> dict[str, str]:  # noqa: ANN401 - parsed JSON
    """Peer -> state."""
    return {each["address"]: each["state"] for each in status["peers"]}


class Diary:
    """What the route table held, and when; one entry for each change. ``gone``: when an instance was seen down."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.entries: list[tuple[float, frozenset[str]]] = []
        self.gone: float | None = None

    def look(self) -> dict[str, str]:
        """The table now."""
        if self.gone is None and not all(self._stack.instances()):
            self.gone = time.monotonic()
        table = self._stack.table()
        now = frozenset(table)
        if not self.entries or self.entries[-1][1] != now:
            self.entries.append((time.monotonic(), now))
        return table

    def of(self, blocks: set[str]) -> list[tuple[float, int]]:
        """When the table held how many of these."""
        found: list[tuple[float, int]] = []
        for at, held in self.entries:
            if not found or found[-1][1] != len(held & blocks):
                found.append((at, len(held & blocks)))
        return found
