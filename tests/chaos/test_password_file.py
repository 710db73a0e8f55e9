"""Password files come, go and change while sessions stand on them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lab.bird import ROUTE_SERVER_ASN
from lab.evidence import Messages
from lab.netns import wait_for
from lab.topology import Lab, Node
from tests.chaos.conftest import answers, configure

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

PEER = "10.42.0.5"


def peer(node: Node) -> dict[str, object]:
    return next(each for each in node.status()["peers"] if each["address"] == PEER)


def lock(lab: Lab, key: str) -> None:
    """Rs-1 wants this key from node-a; an empty one: none."""
    bird = lab.fabric.birds["rs-1"]
    text, neighbor = lab.fabric.route_server("rs-1").config(bird.mrt), "neighbor 10.42.1.4 as 64512;"
    bird.configure(text.replace(neighbor, f'{neighbor} password "{key}";') if key else text)


@pytest.fixture
def key(lab: Lab) -> Iterator[Path]:
    """Node-a's session with rs-1 stands on this file."""
    file = lab.folder / "key"
    file.write_text("s3cret\n")
    lock(lab, "s3cret")
    configure(
        lab.nodes["node-a"],
        peers=[
            {"address": "10.42.0.4", "asn": ROUTE_SERVER_ASN, "multihop": 8},
            {"address": PEER, "asn": ROUTE_SERVER_ASN, "multihop": 8, "password_file": str(file)},
        ],
    )
    wait_for("the definition with the key is in force", lambda: "s3cret" in peers_kept(lab), 10)
    lab.wait(60)
    wait_for("the session stands on it", lambda: peer(lab.nodes["node-a"])["state"] == "established", 10)
    yield file
    lock(lab, "")


def said(node: Node, words: str) -> bool:
    return words in str(node.status()["config"]["problem"])


def peers_kept(lab: Lab) -> str:
    return (lab.nodes["node-a"].state_dir / "peers.json").read_text()


def test_a_session_outlives_its_password_file(lab: Lab, key: Path) -> None:
    node = lab.nodes["node-a"]
    since = peer(node)["since"]
    for content, why in ((b"", "is empty"), (b"\xff\xfe", "printable"), (None, "is not there")):
        key.unlink() if content is None else key.write_bytes(content)
        wait_for(f"it says: {why}", partial(said, node, why), 10)
        assert peer(node)["state"] == "established"
        assert peer(node)["since"] == since
        assert "s3cret" not in str(node.status())
    key.write_text("s3cret")
    wait_for("and that it is back", lambda: node.status()["config"]["problem"] is None, 10)
    assert peer(node)["since"] == since


def test_an_agent_that_starts_while_the_password_file_is_lost_ends_no_session(lab: Lab, key: Path) -> None:
    node = lab.nodes["node-a"]
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    key.unlink()
    node.end_agent(signal.SIGKILL)
    node.start_agent()
    wait_for("the agent answers", lambda: answers(node), 10)
    wait_for("it says what is missing", lambda: said(node, "a session that stands goes on"), 10)
    wait_for("the session stands", lambda: peer(node)["state"] == "established", 10)
    lab.wait(30)
    key.write_text("s3cret")
    wait_for("and that it is back", lambda: node.status()["config"]["problem"] is None, 10)
    assert messages.updates().total() == 0, "no session was touched"
    assert peer(node)["flaps"] == 0


def test_a_rotated_password_is_taken_up(lab: Lab, key: Path) -> None:
    node = lab.nodes["node-a"]
    key.with_suffix(".new").write_text("0ther\n")
    lock(lab, "0ther")
    wait_for("the old key is of no use any more", lambda: peer(node)["state"] != "established", 10)
    key.with_suffix(".new").replace(key)
    wait_for("the session stands on the new key", lambda: peer(node)["state"] == "established", 10)
    assert lab.fabric.birds["rs-1"].established("node-a")
