"""The command line: ``azure-twin run``, ``status`` and ``route``; in containers also ``attach`` and ``instance``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import msgspec

from azure_twin import __version__
from azure_twin.config import ConfigError, FabricConfig, load
from azure_twin.core.errors import Json

URL: Final = "http://127.0.0.1:9180"
EXAMPLES: Final = """examples:
  azure-twin run -c twin.yaml
  azure-twin status
  azure-twin route node-a 192.168.2.5
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Exit codes: 0 good; 1 failed; 2 wrong usage or configuration."""
    raise SystemExit(_main(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.command == "run":
        return _run(arguments)
    if arguments.command in {"attach", "instance"}:
        return _stay(arguments)
    try:
        if arguments.command == "status":
            return _status(arguments)
        return _route(arguments)
    except (urllib.error.URLError, OSError, msgspec.DecodeError) as error:
        sys.stderr.write(f"azure-twin: {arguments.url}: {error}; is `azure-twin run` up, and this its `listen`?\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "azure-twin", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="bring the twin up and keep it up")
    run.add_argument("-c", "--config", type=Path, required=True, help="the YAML file")
    run.add_argument("--fresh", action="store_true", help="forget the state directory's journal first")
    for name, argument, text in (
        ("attach", "VM", "be the network of a VM in a container of its own"),
        ("instance", "N", "be an instance of the Route Server in a container of its own"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("name", metavar=argument)
        command.add_argument("--directory", type=Path, default=Path(FabricConfig().directory),
                             help=f"shared with `azure-twin run` (default: {FabricConfig().directory})")  # fmt: skip
    for name, text in (("status", "what each instance holds, and who holds which lock"),
                       ("route", "what the fabric does with a packet")):  # fmt: skip
        command = commands.add_parser(name, help=text)
        command.add_argument("--url", default=os.environ.get("AZURE_TWIN_URL", URL), help=f"default: {URL}")
        command.add_argument("--json", action="store_true", help="for programs")
        if name == "route":
            command.add_argument("source", metavar="FROM", help="address or name of a VM")
            command.add_argument("target", metavar="TO", help="address or name of a VM")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from azure_twin.fabric.namespaces import FabricError  # noqa: PLC0415  # only `run` needs the server's imports
    from azure_twin.journal import JournalError  # noqa: PLC0415
    from azure_twin.twin import Twin  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        config = load(arguments.config)
    except ConfigError as error:
        sys.stderr.write(f"azure-twin: {error}\n")
        return 2
    if arguments.fresh and config.state:
        (Path(config.state) / "journal.jsonl").unlink(missing_ok=True)

    async def serve() -> None:
        twin = Twin(config)
        task = asyncio.ensure_future(twin.run())
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, task.cancel)
        ready = asyncio.ensure_future(twin.ready.wait())
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not task.done():
            places = ", ".join(each.address for each in config.listens())
            logging.getLogger("azure_twin").info("azure-twin %s listens at %s", __version__, places)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(serve())
    except ConfigError as error:
        sys.stderr.write(f"azure-twin: {arguments.config}: {error}\n")
        return 2
    except (JournalError, FabricError, OSError, ValueError) as error:
        sys.stderr.write(f"azure-twin: {error}\n")
        return 1
    except ExceptionGroup as several:  # something that runs for ever failed
        logging.getLogger("azure_twin").exception("the twin ends")
        sys.stderr.write(f"azure-twin: {'; '.join(str(each) for each in several.exceptions)}\n")
        return 1
    return 0


def _stay(arguments: argparse.Namespace) -> int:
    from azure_twin.containers.member import RefusedError, stay  # noqa: PLC0415
    from azure_twin.containers.members import INSTANCE  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    instance = arguments.command == "instance"
    name = f"{INSTANCE}{arguments.name}" if instance else arguments.name

    async def until_told() -> None:
        task = asyncio.ensure_future(stay(name, arguments.directory, programs=instance))
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(until_told())
    except (RefusedError, OSError) as error:
        sys.stderr.write(f"azure-twin: {error}\n")
        return 1
    return 0


def _get(url: str, path: str, query: Mapping[str, str]) -> Json:
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise OSError("not an http or https address")
    full = f"{url.rstrip('/')}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(full, timeout=10) as answer:  # noqa: S310  # the scheme was looked at
        return cast("Json", msgspec.json.decode(answer.read()))


def _status(arguments: argparse.Namespace) -> int:
    shown = _get(arguments.url, "/twin/status", {})
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(shown)).decode() + "\n")
        return 0
    status = msgspec.convert(shown, Status)
    for index, instance in enumerate(status.instances):
        state = ("up" if instance.up else "down") + "".join(f", LACKS {each}" for each in instance.lacks)
        sys.stdout.write(f"instance {index}: {state}, {instance.held} routes held, {instance.programmed} programmed\n")
        for address, peer in instance.peers.items():
            note = f"  {peer.note}" if peer.note else ""
            sys.stdout.write(f"  peer {address:15} AS {peer.asn:<6} {peer.state:12} {peer.counted} counted{note}\n")
        for route in instance.routes:
            path = " ".join(str(each) for each in route.as_path)
            sys.stdout.write(f"  {route.prefix:20} via {route.next_hop:15} from {route.peer:15} path {path}\n")
    for lock in status.locks:
        sys.stdout.write(f"lock {lock.lock}: {lock.operation}, {lock.due_in:.1f} s to go\n")
    for link in status.links:
        flags = ("forwards" if link.ip_forwarding else "no IP forwarding") + (", SILENT" if link.silent else "")
        flags += "" if link.here else ", no container"
        sys.stdout.write(f"vm {link.vm:15} {', '.join(link.addresses):15} {flags}\n")
    return 0


def _route(arguments: argparse.Namespace) -> int:
    shown = _get(arguments.url, "/twin/route", {"from": arguments.source, "to": arguments.target})
    text = msgspec.json.encode(shown).decode() if arguments.json else str(shown["answer"])
    sys.stdout.write(text + "\n")
    return 0


class StatusPeer(msgspec.Struct):
    """A peer in /twin/status."""

    asn: int
    state: str
    counted: int
    note: str


class StatusRoute(msgspec.Struct):
    """A route in /twin/status."""

    prefix: str
    peer: str
    next_hop: str
    as_path: list[int]


class StatusInstance(msgspec.Struct):
    """An instance in /twin/status."""

    up: bool
    held: int
    programmed: int
    lacks: list[str]
    peers: dict[str, StatusPeer]
    routes: list[StatusRoute]


class StatusLock(msgspec.Struct):
    """A lock in /twin/status."""

    lock: str
    operation: str
    due_in: float


class StatusLink(msgspec.Struct):
    """A NIC in /twin/status."""

    vm: str
    addresses: list[str]
    ip_forwarding: bool
    silent: bool
    here: bool


class Status(msgspec.Struct):
    """/twin/status."""

    instances: list[StatusInstance]
    locks: list[StatusLock]
    links: list[StatusLink]
