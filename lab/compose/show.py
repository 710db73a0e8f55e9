"""What the nodes of the compose lab say, as lines of a log, and their HTTP for the outside.

``python -m lab.compose.show NODE=PORT…``: each node's agent answers at its port, through the node's window, and every
change of what it says of itself is a line.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

from lab.compose.relay import towards, window

LOOK: Final = 0.5  # seconds between two looks
TIMEOUT: Final = 5.0
REQUEST: Final = b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n"
TRY: Final = """
Every node announces, and is asked at the addresses above (/ is a page for people). Try
  docker compose stop rs1                       one instance is gone: routes in the table (UDR) take over
  docker compose stop rs0                       the table alone
  docker compose start rs0 rs1                  back to BGP, one block first
  docker compose exec agent-a bgp-agent status  what node-a says, and why
  docker compose exec pod-a ping 192.168.3.2    a packet from pod to pod
  docker compose logs pod-a                     what pod-a lost meanwhile: nothing"""


def say(text: str) -> None:
    """A line of the log."""
    print(text, flush=True)


def summary(status: Mapping[str, Any]) -> str:
    """``/status`` in a line."""
    established = sum(each["state"] == "established" for each in status["peers"])
    blocks = " ".join(f"{each['cidr']} {each['state']}" for each in status["blocks"])
    table = " ".join(str(each["prefix"]) for each in status["fallback"]["routes"]) or "nothing"
    return (
        f"traffic by {status['mode']} · {established} of {len(status['peers'])} sessions · {blocks} · "
        f"{status['kernel']['installed']} learned · in the table: {table}"
    )


async def status(node: str) -> Mapping[str, Any]:
    """Ask a node. Raises :class:`OSError`, :class:`ValueError`."""
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_unix_connection(window(node))
        try:
            writer.write(REQUEST)
            answer = (await reader.read()).partition(b"\r\n\r\n")[2]
        finally:
            writer.close()
    found: Mapping[str, Any] = json.loads(answer)
    return found


async def watch(node: str, port: int, waiting: set[str]) -> None:
    """Say what a node says, whenever that changes, for ever; what there is to try, when nobody is waited for."""
    before = ""
    while True:
        try:
            told = await status(node)
            line = summary(told)
        except (OSError, ValueError, KeyError):
            told, line = {}, "does not answer"
        if line != before:
            before = line
            say(f"{node} http://127.0.0.1:{port}/status · {line}")
        if told.get("ready") and node in waiting:
            waiting.remove(node)
            if not waiting:
                say(TRY)
        await asyncio.sleep(LOOK)


async def run(nodes: Mapping[str, int]) -> None:
    """Show until told to end."""
    waiting = set(nodes)
    async with asyncio.TaskGroup() as tasks:
        for node, port in nodes.items():
            path = window(node)
            serve = towards(lambda path=path: asyncio.open_unix_connection(path))  # type: ignore[misc]  # mypy cannot infer the default
            await asyncio.start_server(serve, "0.0.0.0", port)  # noqa: S104 - published on the host's loopback alone
        here = [tasks.create_task(watch(node, port, waiting)) for node, port in nodes.items()]
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: [task.cancel() for task in here])


if __name__ == "__main__":
    pairs = (word.split("=") for word in sys.argv[1:])
    asyncio.run(run({node: int(port) for node, port in pairs}))
