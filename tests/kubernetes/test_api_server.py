"""The lab's API server is a real one: it refuses, forgets nothing, goes away and comes back."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.kube import replay
from lab.kube.client import RefusedError
from lab.kube.crds import V1, V3, crds
from lab.kubernetes import ApiServer, Binaries, User

SAMPLES = Path(__file__).parent / "samples"
NODES = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    binaries = Binaries.find()
    if isinstance(binaries, str):
        pytest.skip(binaries)
    with ApiServer(tmp_path_factory.mktemp("api"), binaries, users=[User("somebody"), User("agent")]) as running:
        for group in (V1, V3):
            running.define(crds(group))
        yield running


def named(name: str, loose: bool = False) -> dict[str, Any]:
    """A definition of BlockAffinities in a group that nobody has used yet."""
    made = copy.deepcopy(crds(V1, loose=loose)[0])
    made["spec"]["group"] = name
    made["metadata"]["name"] = f"blockaffinities.{name}"
    return made


def affinity(group: str, **spec: object) -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1", "kind": "BlockAffinity", "metadata": {"name": "a"}, "spec": spec}


def test_a_user_may_what_was_granted_and_nothing_else_and_the_audit_log_knows_it(server: ApiServer) -> None:
    server.grant("agent", NODES)
    assert server.client("somebody").request("GET", "/api/v1/nodes")[0] == 403
    assert server.client("agent").request("GET", "/api/v1/nodes")[0] == 200
    assert server.client("agent").request("GET", "/api/v1/pods")[0] == 403
    asked = [(each["verb"], each["responseStatus"]["code"]) for each in server.requests("agent")]
    assert asked == [("list", 200), ("list", 403)]


@pytest.mark.parametrize(("sample", "group"), [("v1", V1), ("v3", V3)])
def test_a_recorded_cluster_ends_as_it_was_recorded(server: ApiServer, sample: str, group: str) -> None:
    events = replay.read(SAMPLES / f"{sample}.jsonl")
    for event in replay.replay(server.admin, events):
        stored = server.admin.find(server.admin.path(event.thing))
        assert (stored and replay.portable(stored)) == (None if event.type == "DELETED" else event.thing)
    kinds = ("ippools", "blockaffinities", "ipamblocks")
    standing = [each for kind in kinds for each in server.admin.items(f"/apis/{group}/{kind}")]
    assert {replay.key(each): replay.portable(each) for each in standing} == replay.after(events)


def test_a_definition_is_served_once_it_is_defined(server: ApiServer) -> None:
    server.define([named("served.example")])
    path = "/apis/served.example/v1/blockaffinities"
    status, listed = server.admin.request("GET", path)
    assert status == 200
    server.admin.create(affinity("served.example", cidr="192.0.2.0/26", node="n", state="", deleted="false"))
    since = listed["metadata"]["resourceVersion"]
    assert [event["type"] for event in server.admin.watch(path, since=since, seconds=1)] == ["ADDED"]


def test_a_strict_definition_refuses_what_a_loose_one_stores(server: ApiServer) -> None:
    server.define([named("strict.example"), named("loose.example", loose=True)])
    absurd: dict[str, Any] = {"cidr": ["not", "a", "prefix"], "node": -1, "deleted": {}}
    with pytest.raises(RefusedError, match="422"):
        server.admin.create(affinity("strict.example", **absurd))
    assert server.admin.create(affinity("loose.example", **absurd))["spec"] == absurd


def test_kubectl_works_with_the_kubeconfig_that_was_written(server: ApiServer) -> None:
    server.grant("agent", NODES)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
    address = {"type": "InternalIP", "address": "10.42.1.4"}
    server.admin.apply({**node, "status": {"addresses": [address]}})
    shown = server.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}", user="agent")
    assert shown == "10.42.1.4"


def test_a_token_of_a_service_account_that_was_made_anew_is_worth_nothing(server: ApiServer) -> None:
    server.service_account("agent", "routing")
    old = server.client(token=server.service_account_token("agent", "routing"))
    server.service_account("agent", "routing")
    assert old.request("GET", "/api/v1/nodes")[0] == 401
    new = server.client(token=server.service_account_token("agent", "routing"))
    assert new.request("GET", "/api/v1/nodes")[0] == 403


def test_a_server_comes_back_on_its_address_with_its_objects(server: ApiServer) -> None:
    name = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}}
    uid = server.admin.apply(name)["metadata"]["uid"]
    for end in (server.stop, server.kill):
        end()
        with pytest.raises(ConnectionRefusedError):
            server.client().request("GET", "/readyz")
        server.start()
        assert server.admin.get(server.admin.path(name))["metadata"]["uid"] == uid


def test_a_frozen_server_keeps_the_connection_and_says_nothing_until_it_thaws(server: ApiServer) -> None:
    client = server.client()
    assert client.request("GET", "/readyz")[0] == 200
    server.freeze()
    try:
        with pytest.raises(TimeoutError):
            client.request("GET", "/readyz", timeout=0.5)
    finally:
        server.thaw()
    assert client.request("GET", "/readyz")[0] == 200


def test_nothing_of_a_server_is_left_when_it_was_closed(tmp_path: Path) -> None:
    binaries = Binaries.find()
    if isinstance(binaries, str):
        pytest.skip(binaries)
    with ApiServer(tmp_path, binaries) as running:
        processes = [running.etcd.process, running.apiserver.process]
    assert all(process is not None and process.returncode == -9 for process in processes)
    for port in (2379, 2380, running.port):
        with socket.socket() as probe:
            assert probe.connect_ex((running.address, port))
