"""``init``, ``check``, ``completion`` and ``version``: what needs no agent."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bgp_agent import __version__
from bgp_agent.cli import output
from bgp_agent.cli.main import GOOD, WRONG, CommandError
from bgp_agent.cli.parser import DEFAULT_CONFIG, PROG, build_parser
from bgp_agent.cli.places import config_path, load_config

if TYPE_CHECKING:
    from bgp_agent.config import Config, Loaded


def init(arguments: argparse.Namespace) -> int:
    """``bgp-agent init``: never replaces a file unasked, never leaves half a file."""
    from bgp_agent.config import init_text  # noqa: PLC0415 - only this command needs it

    text = init_text()
    if arguments.file == "-":
        print(text, end="")
        return GOOD
    path = Path(arguments.file or DEFAULT_CONFIG)
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        fresh = _beside(path, text)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}; name another FILE, or - to print it") from None
    try:
        if arguments.force:
            fresh.replace(path)
        else:
            path.hardlink_to(fresh)  # fails where a file is, in one step
    except FileExistsError:
        raise CommandError(f"{path} is there already: --force replaces it, another FILE keeps both") from None
    finally:
        fresh.unlink(missing_ok=True)
    print(f"{path} is written: fill in AS numbers, peers and pools, then `{PROG} check -c {path}`")
    return GOOD


def _beside(path: Path, text: str) -> Path:
    """A file beside ``path`` that holds the whole text, so that nobody ever reads half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    return fresh


def check(arguments: argparse.Namespace) -> int:
    """``bgp-agent check``: prints the effective config, or exit 2."""
    from bgp_agent.config import defaults, effective  # noqa: PLC0415 - only this command needs it

    if arguments.print_defaults:
        _print_yaml(defaults(), as_json=arguments.json)
        return GOOD
    loaded = load_config(config_path(arguments))
    for warning in (*loaded.warnings, *_lost_passwords(loaded)):
        print(f"{PROG}: warning: {output.clean(warning)}", file=sys.stderr)
    if loaded.ignored:
        print(f"{PROG}: these variables mean nothing: {output.clean(', '.join(loaded.ignored))}", file=sys.stderr)
    _refuse_user(loaded)
    _print_yaml(effective(loaded.config), as_json=arguments.json)
    if left := _discovered(loaded.config):
        print(f"{PROG}: discovered on Azure when the agent runs: {', '.join(left)}", file=sys.stderr)
    return GOOD


def _discovered(config: Config) -> list[str]:
    """The keys that the file leaves to Azure."""
    if config.azure is None:
        return []
    left: dict[str, object] = {"bgp.asn": config.bgp.asn, "bgp.peers": config.bgp.peers}
    left |= {"azure.route_server": config.azure.route_server, "azure.route_tables": config.azure.route_tables}
    return [key for key, value in left.items() if not value]


def _lost_passwords(loaded: Loaded) -> list[str]:
    from bgp_agent.passwords import Passwords  # noqa: PLC0415 - only this command needs it

    passwords = Passwords()
    named = [(peer.address, peer.password_file) for peer in loaded.config.bgp.peers if peer.password_file]
    return [f"{loaded.path}: peer {address}: {why}" for address, file in named if (why := passwords.read(file)[1])]


def _refuse_user(loaded: Loaded) -> None:
    """``speaker.user`` must be able to run ExaBGP. Raises :class:`CommandError`."""
    from bgp_agent.cli.reach import why_not  # noqa: PLC0415 - only this command needs it
    from bgp_agent.speaker.exabgp_config import assets  # noqa: PLC0415

    user = loaded.config.speaker.user
    reason = why_not(user, Path(loaded.config.state_dir), assets() / "exabgp") if user else None
    if reason is not None:
        raise CommandError(f"the config cannot be used:\n{loaded.path}: speaker.user: {reason}", WRONG)


def _print_yaml(text: str, *, as_json: bool) -> None:
    if as_json:
        from bgp_agent.config.yaml12 import read  # noqa: PLC0415

        output.json_value(read(text).value)
    else:
        print(text, end="")


def completion(arguments: argparse.Namespace) -> int:
    """``bgp-agent completion``."""
    import shtab  # noqa: PLC0415 - only this command needs it

    print(shtab.complete(build_parser(), shell=arguments.shell))
    return GOOD


def version(arguments: argparse.Namespace) -> int:
    """``bgp-agent version``."""
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version as of  # noqa: PLC0415

    try:
        exabgp = of("exabgp")
    except PackageNotFoundError:
        exabgp = "not installed"
    python = ".".join(map(str, sys.version_info[:3]))
    found = {PROG: __version__, "exabgp": exabgp, "python": python, "kernel": os.uname().release}
    if arguments.json:
        output.json_value(found)
    else:
        for name, value in found.items():
            print(f"{name} {value}")
    return GOOD
