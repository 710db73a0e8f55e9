"""A node of the compose lab, apart from bgp-agent: the links of its network, and a window for its HTTP.

``python -m lab.compose.node NAME`` in a container whose network the agent and the speaker of the node share:

- it is a link of the Azure twin's fabric, as ``azure-twin attach NAME`` is;
- it is what a CNI plugin is: a pod hands over its network namespace as an open file, at a socket that both see, and
  gets a veth whose route on the node is the pod's address;
- the node's only network is the fabric, as in Azure, so the agent's HTTP leaves it by a Unix socket.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from azure_twin.config import FabricConfig
from azure_twin.containers.channel import Channel, Message, close_all
from azure_twin.containers.member import stay

from lab.compose.relay import towards, window, wires

log = logging.getLogger("node")
STATUS_PORT: Final = 9179
UPLINK: Final = "eth0"
LOOK: Final = 0.2  # seconds between two looks at the links
#: The pods' gateway, on every pod's link, as Calico has it.
GATEWAY: Final = "169.254.1.1"


async def ip(*words: str, files: tuple[int, ...] = ()) -> None:
    """Run ``ip WORDS``. Raises :class:`OSError` with what it said."""
    process = await asyncio.create_subprocess_exec("ip", *words, stderr=asyncio.subprocess.PIPE, pass_fds=files)
    _, said = await process.communicate()
    if process.returncode:
        raise OSError(f"`ip {' '.join(words)}`: {said.decode(errors='replace').strip()}")


def listening(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A Unix socket that listens; what stands in its place goes first."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    made.listen(16)
    made.setblocking(False)  # noqa: FBT003 - the standard library's own name
    return made


def links() -> set[str]:
    """The names of the links of this network."""
    return {name for _, name in socket.if_nameindex()}


async def pods(name: str) -> None:
    """Give every pod that comes its link, for ever."""
    server = listening(wires(name), socket.SOCK_SEQPACKET)
    async with asyncio.TaskGroup() as tasks:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(server)
            tasks.create_task(_pod(Channel(connection)))


async def _pod(channel: Channel) -> None:
    """Wire one pod, and take its link away when it or the fabric is gone: the fabric takes in no node with links."""
    link = ""
    try:
        await _until(lambda: UPLINK in links())
        if (received := await channel.receive()) is None:
            return
        message, files = received
        link = "cali" + message.join.replace(".", "")
        try:
            await _wire(link, str(ip_address(message.join)), *files)
        finally:
            close_all(files)
        channel.send(Message(joined=True))
        log.info("pod %s has its link", message.join)
        await _until(lambda: not {UPLINK, link} <= links())
    except (OSError, ValueError, TypeError) as error:
        log.warning("a pod gets no link: %s", error)
    finally:
        if link in links():
            await ip("link", "delete", link)
        channel.close()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the kernel tells no event of ours
        await asyncio.sleep(LOOK)


async def _wire(link: str, address: str, namespace: int) -> None:
    peer = ("name", "eth0", "netns", f"/proc/self/fd/{namespace}")
    await ip("link", "add", link, "type", "veth", "peer", *peer, files=(namespace,))
    await ip("address", "add", f"{GATEWAY}/32", "dev", link)
    await ip("link", "set", link, "up")
    await ip("route", "replace", f"{address}/32", "dev", link, "scope", "link")


async def open_window(name: str) -> None:
    """Let the agent's HTTP be asked from outside of the node's network, for ever."""
    serve = towards(lambda: asyncio.open_connection("127.0.0.1", STATUS_PORT))
    path = window(name)
    path.unlink(missing_ok=True)
    async with await asyncio.start_unix_server(serve, path) as server:
        await server.serve_forever()


async def run(name: str) -> None:
    """Be the node until told to end. Raises RefusedError (in a group) when the twin does not know it."""
    async with asyncio.TaskGroup() as tasks:
        here = [
            tasks.create_task(stay(name, Path(FabricConfig().directory), programs=False)),
            tasks.create_task(pods(name)),
            tasks.create_task(open_window(name)),
        ]
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: [task.cancel() for task in here])


def main() -> None:
    """Read the command line."""
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    asyncio.run(run(sys.argv[1]))


if __name__ == "__main__":
    main()
