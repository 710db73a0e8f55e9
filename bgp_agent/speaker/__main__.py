"""``python -m bgp_agent.speaker``: the host without the rest of the program around it, which would only cost memory."""

from __future__ import annotations

# ruff: isort: off
from bgp_agent.speaker import slim  # noqa: F401 - first

# ruff: isort: on
import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from bgp_agent.speaker.host import Host
from bgp_agent.speaker.hostlog import set_up
from bgp_agent.speaker.premises import HostError, Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the host as the arguments say."""
    options = parser().parse_args(argv)
    settings = Settings(options.state_dir, options.user, options.group, options.stop_timeout, options.port)
    return run_speaker(settings, log_level=options.log_level, log_format=options.log_format, log_file=options.log_file)


def run_speaker(
    settings: Settings, *, log_level: str = "info", log_format: str = "console", log_file: Path | None = None
) -> int:
    """Run the host until it is told to stop; the exit code: 1 with the reason in the log when it cannot run.

    The log goes to standard error, or to ``log_file``, which is kept bounded.
    """
    log = set_up(log_level, log_format, log_file)

    async def run() -> int:
        return await Host(settings, log).run()

    try:
        return asyncio.run(run())
    except HostError as error:
        log.error("%s", error)  # noqa: TRY400 - the words say it all
        return 1


def parser() -> argparse.ArgumentParser:
    """The arguments; the command line proper reads a config file and passes them."""
    made = argparse.ArgumentParser(prog="bgp-agent speaker", description=__doc__)
    made.add_argument("--state-dir", type=Path, required=True)
    made.add_argument("--user")
    made.add_argument("--group")
    made.add_argument("--stop-timeout", type=float, default=150.0, metavar="SECONDS")
    made.add_argument("--port", type=int, default=179)
    made.add_argument("--log-level", default="info")
    made.add_argument("--log-format", choices=("console", "json"), default="console")
    made.add_argument("--log-file", type=Path)
    return made


if __name__ == "__main__":
    sys.exit(main())
