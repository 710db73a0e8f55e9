"""What peers hear of the own blocks, prefix by prefix, as they wrote it down: never one too many, never one twice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import yaml

from lab import proofs
from lab.bird import ROUTE_SERVER_ASN, protocol_name
from lab.evidence import Messages, RouteEvents, read_mrt
from lab.netns import wait_for
from lab.topology import ASN, ROUTE_SERVERS, Lab, Node
from tests.chaos.conftest import answers, configure

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

BLOCK: Final = "192.168.9.0/26"
OPEN: Final = 1  # RFC 4271 section 4.1
Disaster: TypeAlias = Callable[[Lab, Node], None]


def listen(lab: Lab) -> Messages:
    return Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})


def heard(messages: Messages, node: Node, name: str) -> tuple[Counter[str], Counter[str]]:
    """How often a route server was told of each prefix by a node, and of its end."""
    told = messages.told(name, node.plan.address)
    return Counter(p for update in told for p in update.announced), Counter(p for u in told for p in u.withdrawn)


def held(lab: Lab, node: Node) -> list[set[str]]:
    """What each route server has of a node."""
    return [bird.prefixes(node.name) for bird in lab.fabric.birds.values()]


def expect(lab: Lab, node: Node, blocks: Iterable[str], timeout: float = 10.0) -> None:
    wanted = [set(blocks)] * 2
    wait_for(
        f"both route servers hold {len(wanted[0])} blocks of {node.name}", lambda: held(lab, node) == wanted, timeout
    )


def block(node: Node, cidr: str) -> dict[str, Any]:
    """An own block in /status; an empty one when it is not there."""
    return next((each for each in node.status()["blocks"] if each["cidr"] == cidr), {})


def test_a_block_that_is_split_and_joined_again_is_told_once_each_and_costs_no_packet(lab: Lab) -> None:
    node, others = lab.nodes["node-a"], [each for each in lab.nodes.values() if each.name != "node-a"]
    whole, rest, halves = "192.168.1.0/26", "192.168.1.64/26", ["192.168.1.0/27", "192.168.1.32/27"]
    for blocks, new, old in (([*halves, rest], halves, [whole]), ([whole, rest], [whole], halves)):
        messages = listen(lab)
        with (
            RouteEvents(lab.network, [each.inside for each in others], lab.folder) as events,
            proofs.traffic_between(lab, proofs.crossing(lab, node)) as traffic,
        ):
            traffic.run_for(0.2)
            node.own(blocks)
            expect(lab, node, blocks)
            wait_for("the others have followed", lambda: len(events.seen()) >= 2 * 3, 5)
            traffic.run_for(0.3)
            counts = traffic.finish()
            assert Counter(map(event, events.seen())) == Counter([*new, *(f"Deleted {p}" for p in old)] * 2)
        assert [count for count in counts if count.lost] == []
        for name in ROUTE_SERVERS:
            assert heard(messages, node, name) == (Counter(new), Counter(old))
            first, *_ = messages.told(name, node.plan.address)
            assert (set(first.announced), first.withdrawn) == (set(new), ()), "the new way first"
        assert {peer for _, peer in messages.updates()} == {node.plan.address}, "nobody else said a word"


def event(line: str) -> str:
    """What `ip monitor` printed, down to the prefix."""
    return re.sub(r"^\S+: ((?:Deleted )?\S+).*$", r"\1", line)


@pytest.mark.parametrize("goes", ["node-a", "node-b"])
def test_a_block_that_two_nodes_announce_stays_with_the_one_when_the_other_withdraws_it(lab: Lab, goes: str) -> None:
    leaves, keeps = (lab.nodes[name] for name in (("node-a", "node-b") if goes == "node-a" else ("node-b", "node-a")))
    third = lab.nodes["node-c"]
    for owner in (leaves, keeps):
        owner.own([*owner.plan.blocks, BLOCK])
    for owner in (leaves, keeps):
        expect(lab, owner, {*owner.plan.blocks, BLOCK})
    wait_for("the third node has learned it", lambda: via(third, BLOCK), 5)
    messages = listen(lab)
    with RouteEvents(lab.network, [third.inside], lab.folder) as events:
        leaves.own(leaves.plan.blocks)
        expect(lab, leaves, leaves.plan.blocks)
        wait_for("the network delivers to the other", lambda: proofs.probe(third, BLOCK, keeps.name).right, 10)
        wait_for("who withdrew it has learned where it is", lambda: via(leaves, BLOCK), 5)
        assert held(lab, keeps) == [{*keeps.plan.blocks, BLOCK}] * 2
        assert events.seen() == []
    for name in ROUTE_SERVERS:
        assert heard(messages, leaves, name) == (Counter(), Counter([BLOCK]))
        assert heard(messages, keeps, name) == (Counter(), Counter())
    keeps.own(keeps.plan.blocks)
    wait_for("nobody has it any more", lambda: not via(third, BLOCK) and not via(leaves, BLOCK), 5)


def via(node: Node, prefix: str) -> bool:
    """Has the node a kernel route of ours that leads to another node."""
    return any(line.startswith(f"{prefix} via ") for line in node.routes())


def kill_both(lab: Lab, node: Node) -> None:
    """Agent and speaker die, and the route servers have noticed."""
    assert node.speaker is not None
    node.end_agent(signal.SIGKILL)
    node.speaker.kill()
    node.speaker.wait()
    birds = lab.fabric.birds.values()
    wait_for("the sessions are over", lambda: not any(bird.established(node.name) for bird in birds), 10)


def test_nothing_is_announced_before_packets_for_it_would_be_forwarded(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    kill_both(lab, node)
    messages = listen(lab)
    node.inside.sysctl("net.ipv4.ip_forward", 0)
    try:
        node.start_speaker()
        node.start_agent()
        wait_for("the sessions stand", lambda: answers(node) and established(node) == 2, 20)
        wait_for("the other nodes' blocks are learned", lambda: via(node, "192.168.3.0/26"), 5)
        for cidr in node.plan.blocks:
            found = block(node, cidr)
            assert (found["state"], found["peers"]) == ("withheld", [])
            assert found["reason"] == "forwarding is off: set net.ipv4.ip_forward=1"
        assert node.get("/readyz")[0] == 503
        assert [heard(messages, node, name)[0] for name in ROUTE_SERVERS] == [Counter()] * 2
    finally:
        node.inside.sysctl("net.ipv4.ip_forward", 1)
    expect(lab, node, node.plan.blocks, 5)
    assert [heard(messages, node, name)[0] for name in ROUTE_SERVERS] == [Counter(node.plan.blocks)] * 2


def established(node: Node) -> int:
    return sum(peer["state"] == "established" for peer in node.status()["peers"])


def test_a_block_that_left_the_file_while_the_agent_was_dead_is_withdrawn_at_its_start(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    gone, stays = node.plan.blocks
    messages = listen(lab)
    node.end_agent(signal.SIGKILL)
    node.own([stays, BLOCK])
    node.start_agent()
    expect(lab, node, [stays, BLOCK])
    wait_for("the others have let go of it", lambda: not via(lab.nodes["node-c"], gone), 5)
    for name in ROUTE_SERVERS:
        assert heard(messages, node, name) == (Counter([BLOCK]), Counter([gone]))


def test_a_block_that_left_the_file_while_agent_and_speaker_were_dead_is_not_announced_again(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    _gone, stays = node.plan.blocks
    kill_both(lab, node)
    messages = listen(lab)
    node.own([stays, BLOCK])
    node.start_speaker()
    node.start_agent()
    expect(lab, node, [stays, BLOCK], 20)
    for name in ROUTE_SERVERS:
        assert heard(messages, node, name)[0] == Counter([stays, BLOCK])


def exabgps(node: Node) -> list[int]:
    """The process ids of the node's ExaBGPs."""
    mark = str(node.state_dir / "exabgp").encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if any(word.startswith(mark) and word.endswith(b".conf") for word in words):
                found.append(int(entry.name))
    return found


def ask_all_again(lab: Lab, node: Node) -> None:
    """Both route servers ask for a route refresh."""
    for bird in lab.fabric.birds.values():
        assert "reloading" in bird.ask(f"reload in {protocol_name(node.name)}")


def reset_sessions(lab: Lab, node: Node) -> None:
    """Both route servers start their sessions with the node again."""
    for bird in lab.fabric.birds.values():
        assert "restarted" in bird.ask(f"restart {protocol_name(node.name)}")


def change_hold_time(_lab: Lab, node: Node) -> None:
    """A reload that starts every session again, one after the other."""
    document = yaml.safe_load(node.config.read_text())
    document["bgp"]["hold_time"] = "6s"
    node.config.write_text(yaml.safe_dump(document))


def reread(_lab: Lab, node: Node) -> None:
    assert node.agent is not None
    node.agent.send_signal(signal.SIGHUP)


def kill_exabgps(_lab: Lab, node: Node) -> None:
    for pid in exabgps(node):
        os.kill(pid, signal.SIGKILL)


def restart_agent(_lab: Lab, node: Node) -> None:
    node.end_agent(signal.SIGKILL)
    node.start_agent()


def restart_both(lab: Lab, node: Node) -> None:
    kill_both(lab, node)
    node.start_speaker()
    node.start_agent()


def opens(lab: Lab, node: Node) -> int:
    """How many sessions the node has tried to open, as the route servers wrote down."""
    heard_ = (message for bird in lab.fabric.birds.values() for message in read_mrt(bird.mrt.read_bytes()))
    return sum(message.kind == OPEN and message.peer == node.plan.address for message in heard_)


#: Disaster -> is everything told again after it, because the session is new or was asked for a refresh.
DISASTERS: Final[dict[Disaster, bool]] = {
    reread: False, restart_agent: False, ask_all_again: True, reset_sessions: True, change_hold_time: True,
    kill_exabgps: True, restart_both: True,
}  # fmt: skip


def named(disaster: Disaster) -> str:
    return disaster.__name__.replace("_", " ")


@pytest.fixture(params=DISASTERS, ids=named)
def disaster(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Disaster]:
    node = lab.nodes["node-a"]
    yield request.param
    configure(node)
    wait_for("the hold time is the usual one", lambda: {p["hold_time"] for p in node.status()["peers"]} == {9}, 20)


def told_by(lab: Lab, node: Node, disaster: Disaster, blocks: Iterable[str]) -> list[Counter[str]]:
    """What the route servers are told in and after a disaster, when all is as it was again."""
    messages, wanted = listen(lab), Counter(blocks)
    disaster(lab, node)

    def over() -> bool:
        told = [heard(messages, node, name)[0] for name in ROUTE_SERVERS]
        return not DISASTERS[disaster] or all(wanted <= each for each in told)

    wait_for("all is told again", over, 30)
    wait_for("the agent is there", lambda: answers(node), 10)
    wait_for("all is acknowledged", lambda: [p["announced"] for p in node.status()["peers"]] == [len(wanted)] * 2, 20)
    expect(lab, node, wanted)
    return [heard(messages, node, name)[0] for name in ROUTE_SERVERS]


def test_a_withdrawn_block_is_never_announced_again(lab: Lab, disaster: Disaster) -> None:
    node = lab.nodes["node-a"]
    node.own([*node.plan.blocks, BLOCK])
    expect(lab, node, {*node.plan.blocks, BLOCK})
    node.own(node.plan.blocks)
    expect(lab, node, node.plan.blocks)
    again = Counter(node.plan.blocks if DISASTERS[disaster] else ())
    assert told_by(lab, node, disaster, node.plan.blocks) == [again] * 2


MANY: Final = [f"192.168.{64 + n // 64}.{n % 64 * 4}/30" for n in range(150)]
LIMIT: Final = 100  # half of what a route server takes that counts what it has and what comes in together


def test_no_restart_tells_more_than_half_of_what_the_peer_takes_at_once(lab: Lab, disaster: Disaster) -> None:
    node = lab.nodes["node-a"]
    configure(node, peers=limited(LIMIT))
    node.own(MANY)
    expect(lab, node, MANY[:LIMIT], 20)
    again = Counter(MANY[:LIMIT] if DISASTERS[disaster] else ())
    assert told_by(lab, node, disaster, MANY[:LIMIT]) == [again] * 2
    node.own(node.plan.blocks)
    expect(lab, node, node.plan.blocks)


def limited(limit: int | None) -> list[dict[str, object]]:
    """Both route servers as peers, with a limit of what they are told."""
    return [
        {"address": address, "asn": ROUTE_SERVER_ASN, "multihop": 8, "announce_limit": limit}
        for address in ROUTE_SERVERS.values()
    ]


@contextlib.contextmanager
def strict(lab: Lab, node: Node, limit: int) -> Iterator[None]:
    """Route servers that end a session for good which holds more than ``limit`` prefixes for a moment."""
    name = protocol_name(node.name)
    plain = f"protocol bgp {name} from node {{ neighbor {node.plan.address} as {ASN};"
    texts = {bird: lab.fabric.route_server(at).config(bird.mrt) for at, bird in lab.fabric.birds.items()}
    for bird, text in texts.items():
        assert plain in text
        bird.configure(text.replace(plain, f"{plain} ipv4 {{ import limit {limit} action disable; }};"))
    try:
        yield
    finally:
        for bird, text in texts.items():
            bird.configure(text)
            bird.ask(f"enable {name}")


def within(lab: Lab, node: Node, blocks: set[str]) -> bool:
    return all(each <= blocks for each in held(lab, node))


def test_more_blocks_than_announce_limit_are_withheld_and_a_strict_peer_never_sees_one_too_many(lab: Lab) -> None:
    node, before = lab.nodes["node-a"], 0
    six, others = MANY[:6], MANY[6:12]
    configure(node, peers=limited(3))
    node.own(six[:3])
    expect(lab, node, six[:3])
    with strict(lab, node, 3):
        wait_for("both sessions stand", lambda: established(node) == 2, 10)
        before = opens(lab, node)
        node.own(six)
        wait_for("the rest is withheld", lambda: block(node, six[5]).get("state") == "withheld", 5)
        for cidr in six[3:]:
            reason = "; ".join(f"{peer}: above its announce_limit of 3" for peer in ROUTE_SERVERS.values())
            assert (block(node, cidr)["state"], block(node, cidr)["reason"]) == ("withheld", reason)
        assert held(lab, node) == [set(six[:3])] * 2
        assert node.get("/readyz")[0] == 200
        for blocks in (six[1:], six[3:], others, [*others[:2], *six], six):
            node.own(blocks)
            wait_for("as many as may be are there", lambda: [len(each) for each in held(lab, node)] == [3, 3], 10)
            wait_for("and those that the file names", partial(within, lab, node, set(blocks)), 10)
        node.end_agent(signal.SIGKILL)
        node.own(others)
        node.start_agent()
        wait_for("what another agent left makes room", partial(within, lab, node, set(others)), 20)
        wait_for("all that may be is there", lambda: [len(each) for each in held(lab, node)] == [3, 3], 10)
        assert opens(lab, node) == before, "no session flapped"
