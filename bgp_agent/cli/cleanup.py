"""``cleanup``: take out what the agent leaves behind on purpose, and nothing else."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bgp_agent.cli import output
from bgp_agent.cli.main import FAILED, GOOD, CommandError
from bgp_agent.cli.places import config_path, load_config
from bgp_agent.control.client import listener
from bgp_agent.lock import holder

if TYPE_CHECKING:
    from bgp_agent.config import Config

FILES: Final = (
    "agent.sock", "agent.lock", "drained", "speaker.sock", "speaker.lock", "speaker.log", "speaker.log.1", "peers.json",
    "azure.json", "azure.json.new",
)  # fmt: skip
"""What agent and speaker keep in ``state_dir``, by name: a directory that somebody shares with us stays his."""
FOLDERS: Final = ("exabgp",)


def cleanup(arguments: argparse.Namespace) -> int:
    """``bgp-agent cleanup``: exit 1 when something could not be taken out; the rest is."""
    config = load_config(config_path(arguments)).config
    folder = Path(config.state_dir)
    running = list(_running(folder))
    if running and not arguments.force:
        raise CommandError("; ".join(running) + ": `bgp-agent stop --all` first, or --force")
    done: list[str] = []
    failed: list[str] = []
    if config.azure is not None:
        _user_defined_routes(config, done, failed)
    for name, take_out in (
        ("kernel routes", _routes), ("probe rules and routes", _rules), (f"files in {folder}", _files),
    ):  # fmt: skip
        try:
            done.append(f"{name}: {take_out(config)}")
        except OSError as error:
            failed.append(f"{name}: {error.strerror or error}: are you root?")
    if arguments.json:
        output.json_value({"done": done, "failed": failed})
    else:
        for line in done:
            print(output.clean(line))
    if failed and not arguments.json:
        raise CommandError("not taken out: " + "; ".join(failed))
    return FAILED if failed else GOOD


def _running(folder: Path) -> Iterator[str]:
    for what, lock, path in (("an agent", "agent.lock", "agent.sock"), ("a speaker", "speaker.lock", "speaker.sock")):
        try:
            held = holder(folder, lock) is not None
        except OSError as error:
            raise CommandError(f"{folder / lock} cannot be read: {error.strerror}: be root") from None
        pid = listener(folder / path)
        if held or pid is not None:
            yield f"{what} runs with state_dir {folder}" + (f" (process {pid})" if pid else "")


def _user_defined_routes(config: Config, done: list[str], failed: list[str]) -> None:
    from bgp_agent.cloud.leaving import leave  # noqa: PLC0415 - Azure's libraries, only where azure is configured

    left = asyncio.run(leave(config))
    if left.done:
        done.append(f"user-defined routes: {left.done}")
    failed += [f"user-defined routes: {each}" for each in left.failed]


def _routes(config: Config) -> str:
    from bgp_agent.core.fib import Fib  # noqa: PLC0415 - only this command needs the kernel's side
    from bgp_agent.core.nexthop import NextHops  # noqa: PLC0415
    from bgp_agent.kernel import Kernel  # noqa: PLC0415

    kernel = config.kernel
    fib = Fib(kernel.metric, kernel.protocol, kernel.table)
    taken = asyncio.run(Kernel(fib, NextHops(kernel.protocol), lambda _: None).cleanup())
    return f"{taken} taken out (table {kernel.table}, protocol {kernel.protocol}, metric {kernel.metric})"


def _rules(config: Config) -> str:
    from bgp_agent.probe.setup import SetupError, remove  # noqa: PLC0415 - only this command needs it

    try:
        remove(socket.socket, config.probe.port)
    except SetupError as error:
        raise OSError(str(error)) from error
    return f"none is left for TCP port {config.probe.port}"


def _files(config: Config) -> str:
    folder = Path(config.state_dir)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in FOLDERS:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder / name)  # refuses to follow a symlink
    try:
        folder.rmdir()
    except FileNotFoundError:
        return "there is no such directory"
    except OSError:
        rest = sorted(one.name for one in folder.iterdir())
        return f"taken out; the directory stays, it holds {', '.join(rest[:5]) or 'a mount'}"
    return "taken out, and the directory"
