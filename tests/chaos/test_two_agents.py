"""Two agents on one node, and an agent beside a speaker of another release: the second is told, nobody else notices."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from lab.evidence import Messages, RouteEvents
from lab.netns import wait_for
from lab.topology import Lab, Node
from tests.chaos.conftest import answers

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

#: An agent of a release to come: what it does before it starts, in a Python of today.
LATER: Final = """
import sys
from bgp_agent.speaker import {module}
{module}.{change}
from bgp_agent.__main__ import main
sys.exit(main())
"""


@contextlib.contextmanager
def unnoticed(lab: Lab) -> Iterator[None]:
    """No UPDATE at a route server, no route event on any node, no session of any node lost."""
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    before = [bird.sessions() for bird in lab.fabric.birds.values()]
    with RouteEvents(lab.network, [each.inside for each in lab.nodes.values()], lab.folder) as events:
        yield
        assert [line for line in events.seen() if "blackhole" not in line] == []
    assert messages.updates().total() == 0
    assert [bird.sessions() for bird in lab.fabric.birds.values()] == before


def second(lab: Lab, node: Node, **changes: object) -> subprocess.CompletedProcess[str]:
    """Another agent on the node, its config with ``changes``; what became of it."""
    config = Path(lab.folder) / "second.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(node.config.read_text()), **changes}))
    command = [word.replace(str(node.config), str(config)) for word in node.command("run")]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_a_second_agent_on_a_node_is_refused_and_the_first_is_undisturbed(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    assert node.agent is not None
    with unnoticed(lab):
        beside = second(lab, node)
        assert beside.returncode == 1
        assert f"process {node.agent.pid} holds {node.state_dir}/agent.lock: stop that agent first" in beside.stderr
        apart = second(lab, node, state_dir=str(lab.folder / "second"), http={"listen": "127.0.0.1:9188"})
        assert apart.returncode == 1
        assert f"another agent (process {node.agent.pid}) of this node keeps the routes of table 254" in apart.stderr
        assert node.status()["ready"]
    assert node.agent.poll() is None


@contextlib.contextmanager
def agent_of_another_release(lab: Lab, node: Node, module: str, change: str) -> Iterator[None]:
    """In place of the node's own agent, which is back afterwards."""
    node.end_agent(signal.SIGKILL)
    code = LATER.format(module=module, change=change)
    node.agent = lab.network.start(
        node.inside, sys.executable, "-c", code, "run", "-c", node.config, log=node.log("run")
    )  # fmt: skip
    try:
        wait_for("it answers", lambda: answers(node), 20)
        yield
    finally:
        node.end_agent(signal.SIGTERM)
        node.start_agent()
    lab.wait()


def test_an_agent_that_meets_another_version_of_the_protocol_says_so_and_touches_no_session(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    with unnoticed(lab), agent_of_another_release(lab, node, "protocol", "VERSION += 1"):
        wait_for("the status says so", lambda: "run the same release of both" in node.status()["reason"], 10)
        assert not node.status()["ready"]
        assert {block["state"] for block in node.status()["blocks"]} == {"pending"}


def test_an_agent_that_names_a_peers_definition_otherwise_goes_on_with_its_session(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    other = "_checksum = lambda values: 'another'"
    with unnoticed(lab), agent_of_another_release(lab, node, "definition", other):
        wait_for("it is ready", lambda: node.status()["ready"], 20)
        assert [peer["state"] for peer in node.status()["peers"]] == ["established"] * 2
