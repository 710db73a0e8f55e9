"""The twin over several containers. A container is here what the kernel makes of one.

A process with a network namespace of its own, that only the shared directory joins to the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.netns import NETNS, Namespace, wait_for
from tests.azure.twin.lab.cloud import ADDRESSES, INSTANCES, NODES, Cloud

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(120)]


class Boxes:
    """Containers by name, each an ``azure-twin attach`` or ``azure-twin instance``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *words: str, net: bool = True) -> subprocess.Popen[bytes]:
        name = words[-1]
        log = (self.folder / f"box-{name}.log").open("ab")
        own = ["unshare", "--net"] if net else []
        twin = [sys.executable, "-m", "azure_twin", *words, "--directory", str(self.folder / "shared")]
        self.running[name] = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *own, *twin], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        log.close()
        return self.running[name]

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"box-{name}.log").read_text()

    def close(self) -> None:
        for name in list(self.running):
            self.kill(name)


class Inside(Namespace):
    """The network of a running container."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(str(process.pid))
        self.path = Path(f"/proc/{process.pid}/ns/net")


class ContainerCloud(Cloud):
    """A twin whose VMs are containers."""

    boxes: Boxes

    def vm(self, name: str) -> Namespace:
        return Inside(self.boxes.running[name])


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[Boxes]:
    made = Boxes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def cloud(tmp_path: Path, boxes: Boxes) -> Iterator[ContainerCloud]:
    """Three VMs and two instances, each in a container of its own; instance 1 and VM ``c`` are not started yet."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    fabric = f"fabric: {{mode: containers, tag: t{worker}, directory: {tmp_path}/shared}}\n"
    for words in (("attach", "a"), ("attach", "b"), ("instance", "0")):
        boxes.start(*words)  # before the twin: they wait for it
    made = ContainerCloud(tmp_path, NODES + fabric)
    made.boxes = boxes
    made.until("instance 0 is up", lambda: made.status()["instances"][0]["up"])
    yield made
    made.close()


def up(cloud: Cloud, index: int) -> bool:
    return bool(cloud.status()["instances"][index]["up"])


def test_a_pod_packet_crosses_between_two_containers(cloud: ContainerCloud, boxes: Boxes) -> None:
    boxes.start("instance", "1")
    cloud.until("instance 1 is up", lambda: up(cloud, 1))
    cloud.pod("a", "192.168.1.1")
    assert not cloud.reaches("b", "192.168.1.1")
    cloud.bird("a", ["192.168.1.0/26"])
    cloud.until("both hold the block", lambda: all(cloud.holds(each) for each in (0, 1)))
    assert cloud.reaches("b", "192.168.1.1")
    assert cloud.vm("b").run("ip", "-br", "-4", "address", "show", "eth0").split()[2] == "10.42.1.5/24"


def test_a_container_comes_late_goes_and_comes_again(cloud: ContainerCloud, boxes: Boxes) -> None:
    answer = cloud.http("GET", "/twin/route", **{"from": "a", "to": "c"})[1]["answer"]
    assert answer.endswith("c (10.42.2.4), which has no container now: dropped")
    boxes.start("attach", "c")
    wait_for("a reaches c", lambda: cloud.reaches("a", ADDRESSES["c"]))
    boxes.kill("c")
    wait_for("the link of c is gone", lambda: not cloud.reaches("a", ADDRESSES["c"]))
    boxes.start("attach", "c")
    wait_for("a reaches c again", lambda: cloud.reaches("a", ADDRESSES["c"]))


def test_one_instance_is_stopped_alone_and_comes_back(cloud: ContainerCloud, boxes: Boxes) -> None:
    boxes.start("instance", "1")
    cloud.until("instance 1 is up", lambda: up(cloud, 1))
    cloud.bird("a", ["192.168.1.0/26"])
    boxes.kill("1")
    wait_for("instance 1 is down", lambda: not up(cloud, 1))
    assert cloud.settled()["instances"][0]["held"] == 1
    assert not cloud.reaches("a", INSTANCES[1])
    boxes.start("instance", "1")
    cloud.established("a")
    cloud.until("instance 1 holds the block again", lambda: cloud.holds(1))


def test_containers_come_back_to_a_twin_that_was_killed(cloud: ContainerCloud) -> None:
    cloud.bird("a", ["192.168.1.0/26"], wait=False)
    cloud.established("a", [0])
    cloud.process.kill()
    cloud.process.wait()
    cloud.start()
    cloud.pod("a", "192.168.1.1")
    cloud.established("a", [0])
    wait_for("b reaches the pod of a", lambda: cloud.reaches("b", "192.168.1.1"))


def test_a_twin_that_ends_takes_its_links_out_of_the_containers(cloud: ContainerCloud) -> None:
    cloud.process.terminate()
    assert cloud.process.wait(20) == 0
    assert not [each.name for each in NETNS.iterdir() if each.name.startswith(f"{cloud.tag}-")]
    wait_for("a has no link", lambda: "eth0" not in cloud.vm("a").run("ip", "-br", "link"))


def test_an_instance_whose_bird_dies_in_its_container_comes_back(cloud: ContainerCloud, boxes: Boxes) -> None:
    box = boxes.running["0"].pid
    child = Path(f"/proc/{box}/task/{box}/children")
    bird = child.read_text().split()[0]
    subprocess.run(["kill", "-9", bird], check=True)
    wait_for("another BIRD runs", lambda: child.read_text().split() not in ([], [bird]))
    cloud.until("instance 0 is up", lambda: up(cloud, 0))


@pytest.mark.parametrize(("name", "why"), [("stranger", "is none of a, b, c, instance 0"), ("a", "a is here already")])
def test_a_container_that_is_not_expected_is_sent_away_with_the_reason(
    cloud: ContainerCloud, boxes: Boxes, name: str, why: str
) -> None:
    first = boxes.running.pop(name, None)
    try:
        assert boxes.start("attach", name).wait(20) == 1
        assert why in boxes.log(name)
    finally:
        if first is not None:
            boxes.running[name] = first
    assert cloud.reaches("a", ADDRESSES["b"])


def test_a_container_that_has_a_network_already_is_not_touched(cloud: ContainerCloud, boxes: Boxes) -> None:
    subprocess.run(["ip", "link", "add", "bridged", "type", "veth", "peer", "name", "bridge"], check=True)
    try:
        for end in ("bridged", "bridge"):
            subprocess.run(["ip", "link", "set", end, "up"], check=True)
        refused = boxes.start("attach", "c", net=False)  # the sandbox's own network, as with network_mode: host
        assert refused.wait(20) == 1
        assert "network_mode: none" in boxes.log("c")
        assert "eth0" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run(["ip", "link", "delete", "bridged"], check=True)
    assert cloud.reaches("a", ADDRESSES["b"])
