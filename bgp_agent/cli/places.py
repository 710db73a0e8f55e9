"""Where the config, the agent and its sockets are: options first, then the environment, then the defaults."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bgp_agent.cli.main import WRONG, CommandError
from bgp_agent.cli.parser import DEFAULT_CONFIG, DEFAULT_URL

if TYPE_CHECKING:
    from bgp_agent.config import Loaded

DEFAULT_STATE_DIR: Final = "/run/bgp-agent"


def config_path(arguments: argparse.Namespace) -> Path:
    """The config file to use; it need not exist."""
    return Path(arguments.config or os.environ.get("BGP_AGENT_CONFIG") or DEFAULT_CONFIG)


def load_config(path: Path) -> Loaded:
    """Load the config. Raises :class:`CommandError` with exit code 2 and every problem in words."""
    from bgp_agent.config import ConfigError, load  # noqa: PLC0415 - only commands that need it pay for pydantic

    try:
        return load(path, os.environ)
    except ConfigError as error:
        raise CommandError(f"the config cannot be used:\n{error}", WRONG) from None


def agent_url(arguments: argparse.Namespace) -> str:
    """Where the agent answers: ``--url``, ``$BGP_AGENT_URL``, ``http.listen`` of a given ``-c``, the default."""
    url = arguments.url or os.environ.get("BGP_AGENT_URL")
    if url:
        return str(url)
    if arguments.config:
        return listen_url(load_config(config_path(arguments)).config.http.listen)
    return DEFAULT_URL


def listen_url(listen: str) -> str:
    """The URL that reaches what listens at ``ADDRESS:PORT`` on this machine."""
    host, _, port = listen.rpartition(":")
    local = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 - compared, not bound
    return f"http://{local.get(host, host)}:{port}"


def state_dir(arguments: argparse.Namespace) -> Path:
    """Where the sockets are: ``--state-dir``, else the config's; without a config the environment or the default."""
    if arguments.state_dir:
        return Path(arguments.state_dir)
    path = config_path(arguments)
    given = arguments.config or os.environ.get("BGP_AGENT_CONFIG")
    if not given and not path.exists():
        return Path(os.environ.get("BGP_AGENT_STATE_DIR") or DEFAULT_STATE_DIR)
    return Path(load_config(path).config.state_dir)
