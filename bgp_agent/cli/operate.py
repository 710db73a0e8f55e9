"""``run`` and ``speaker``: the two processes of a node."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from bgp_agent.cli.main import FAILED, WRONG, CommandError
from bgp_agent.cli.places import config_path, load_config


def run(arguments: argparse.Namespace) -> int:
    """``bgp-agent run``: until TERM or INT."""
    loaded = load_config(config_path(arguments))
    from bgp_agent.agent import run_agent  # noqa: PLC0415 - the agent is what only this command needs
    from bgp_agent.lock import LockedError  # noqa: PLC0415
    from bgp_agent.web.server import ListenError  # noqa: PLC0415

    try:
        return run_agent(loaded)
    except (LockedError, ListenError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        remedy = f"; state_dir is {loaded.config.state_dir}: may this user write there?" if error.filename else ""
        raise CommandError(f"cannot start: {where}{reason}{remedy}") from error


def speaker(arguments: argparse.Namespace) -> int:
    """``bgp-agent speaker``: until TERM or INT.

    It must stay small and must start while a config file is broken, so it never loads one itself: with ``--state-dir``
    none is read, else another process reads it and hands over the few settings.
    """
    given = {
        name: getattr(arguments, name)
        for name in ("state_dir", "user", "group", "stop_timeout", "log_level", "log_format", "log_file")
    }
    settings = ({} if arguments.state_dir else _settings(config_path(arguments))) | {
        name: str(value) for name, value in given.items() if value is not None
    }
    from bgp_agent.speaker.__main__ import main as host  # noqa: PLC0415 - only this command needs it

    return host([word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)])


def _settings(path: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "bgp_agent.cli.speaker_settings", os.fspath(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        told = done.stderr.strip() or f"reading it ended with {done.returncode}"
        raise CommandError(told, WRONG if done.returncode == WRONG else FAILED)
    return {str(name): str(value) for name, value in json.loads(done.stdout).items()}
