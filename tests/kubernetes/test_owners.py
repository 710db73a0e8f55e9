"""Where the cluster's blocks are, read from a real API server: nodes with and without Calico's annotations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from bgp_agent.core.prefix import address_text, prefix_text
from bgp_agent.core.values import Blocks
from bgp_agent.kubernetes import nodes, reflector
from bgp_agent.kubernetes.api import Api
from bgp_agent.sources import whereabouts
from bgp_agent.sources.calico import CalicoSource
from bgp_agent.sources.whereabouts import Located
from lab.kube.crds import V1, crds
from lab.kubernetes import ApiServer, Binaries, User

pytestmark = pytest.mark.timeout(120)

IPAM: Final = {
    "apiGroups": ["crd.projectcalico.org", "projectcalico.org"],
    "resources": ["blockaffinities", "ipamblocks", "ippools"],
    "verbs": ["list", "watch"],
}
NODES: Final = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    binaries = Binaries.find()
    if isinstance(binaries, str):
        pytest.skip(binaries)
    users = [User("agent"), User("blind")]
    with ApiServer(tmp_path_factory.mktemp("api"), binaries, users=users) as running:
        running.define(crds(V1))
        running.grant("agent", [IPAM, NODES])
        running.grant("blind", [IPAM])
        running.admin.apply(block("192.168.2.0/26", "node-b", {5: "node-c"}))
        yield running


def node(name: str, annotation: str | None = None, internal: str | None = None) -> dict[str, Any]:
    annotations = {"projectcalico.org/IPv4Address": annotation} if annotation else {}
    addresses = [{"type": "Hostname", "address": name}]
    addresses += [{"type": "InternalIP", "address": internal}] if internal else []
    meta = {"name": name, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"addresses": addresses}}


def block(cidr: str, owner: str, used: dict[int, str]) -> dict[str, Any]:
    allocations: list[int | None] = [None] * 64
    for index, ordinal in enumerate(used):
        allocations[ordinal] = index
    spec = {
        "cidr": cidr, "affinity": f"host:{owner}", "allocations": allocations, "unallocated": [], "deleted": False,
        "attributes": [{"handle_id": "h", "secondary": {"node": each}} for each in used.values()],
        "strictAffinity": False,
    }  # fmt: skip
    name = cidr.replace(".", "-").replace("/", "-")
    return {"apiVersion": V1, "kind": "IPAMBlock", "metadata": {"name": name}, "spec": spec}


class Seen:
    """A source that follows the server for a test, and what it told."""

    def __init__(self, kubeconfig: Path) -> None:
        self.owners: dict[str, str] = {}
        self.told: list[Blocks] = []
        self.source = CalicoSource(lambda: Api(str(kubeconfig)), "node-a", (), self.told.append, self._owners)

    def _owners(self, changes: Located) -> None:
        for prefix, address in changes.items():
            self.owners.pop(prefix_text(prefix), None)
            if address is not None:
                self.owners[prefix_text(prefix)] = address_text(address)

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        for _ in range(4000):
            if condition():
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"{what} did not come about; owners {self.owners}, last told {self.told[-1:]}")

    async def owned(self, **owners: str) -> None:
        """``b``: the block's owner, ``c``: who uses the address."""
        wanted = {{"b": "192.168.2.0/26", "c": "192.168.2.5/32"}[key]: value for key, value in owners.items()}
        await self.until(f"owners {wanted}", lambda: self.owners == wanted)


def play(server: ApiServer, story: Callable[[Seen], Awaitable[None]], user: str = "agent") -> None:
    async def run() -> None:
        seen = Seen(server.kubeconfig(user))
        task = asyncio.create_task(seen.source.run())
        try:
            await story(seen)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


@pytest.fixture(autouse=True)
def two_nodes(server: ApiServer) -> Iterator[None]:
    server.admin.apply(node("node-b", annotation="10.42.1.5/24"), node("node-c", internal="10.42.2.4"))
    yield
    for name in ("node-b", "node-c"):
        if server.admin.find(f"/api/v1/nodes/{name}") is not None:
            server.admin.delete(f"/api/v1/nodes/{name}")


def test_nodes_are_found_by_calicos_annotation_or_else_by_their_internal_address(server: ApiServer) -> None:
    async def story(seen: Seen) -> None:
        await seen.owned(b="10.42.1.5", c="10.42.2.4")
        await asyncio.to_thread(server.admin.apply, node("node-b", annotation="10.42.1.9/24"))
        await seen.owned(b="10.42.1.9", c="10.42.2.4")

    play(server, story)


def test_a_node_that_comes_back_as_another_machine_is_looked_at_again(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "DOUBT", 0.1)

    async def story(seen: Seen) -> None:
        await seen.owned(b="10.42.1.5", c="10.42.2.4")
        await asyncio.to_thread(server.admin.delete, "/api/v1/nodes/node-c")
        await seen.owned(b="10.42.1.5")
        await asyncio.to_thread(server.admin.apply, node("node-c", internal="10.42.2.7"))
        await seen.owned(b="10.42.1.5", c="10.42.2.7")

    play(server, story)


def test_owners_are_not_believed_for_long_while_nothing_is_heard(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whereabouts, "KEPT", 0.3)
    monkeypatch.setattr(reflector, "REFUSED_WAIT", 0.5)  # a server that starts knows its roles a moment later

    async def story(seen: Seen) -> None:
        await seen.owned(b="10.42.1.5", c="10.42.2.4")
        await asyncio.to_thread(server.kill)
        await seen.owned()
        assert seen.told[-1].state.value == "stale"
        server.start()  # not in a thread: the processes end with the thread that started them
        await seen.owned(b="10.42.1.5", c="10.42.2.4")

    play(server, story)


def test_without_the_right_to_read_nodes_it_is_said_and_the_blocks_are_as_ever(server: ApiServer) -> None:
    async def story(seen: Seen) -> None:
        await seen.until("the missing right is named", lambda: bool(seen.told) and "nodes" in seen.told[-1].reason)
        assert seen.told[-1].state.value == "synced"
        assert 'cannot list resource "nodes"' in seen.told[-1].reason
        assert seen.owners == {}

    play(server, story, user="blind")


def test_without_the_right_to_get_a_node_it_is_asked_for_again(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "RETRY", 0.2)
    server.grant("blind", [IPAM, {**NODES, "verbs": ["list", "watch"]}])

    async def story(seen: Seen) -> None:
        await seen.owned(b="10.42.1.5")
        await asyncio.to_thread(server.grant, "blind", [IPAM, NODES])
        await seen.owned(b="10.42.1.5", c="10.42.2.4")

    play(server, story, user="blind")
