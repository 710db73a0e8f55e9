"""``python -m bgp_agent.speaker``: the host without the rest of the program around it, which would only cost memory."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from bgp_agent.speaker.host import Host, HostError, Settings
from bgp_agent.speaker.hostlog import set_up


def main(argv: Sequence[str] | None = None) -> int:
    """Run the host; 1 with the reason on standard error when it cannot."""
    options = parser().parse_args(argv)
    log = set_up(options.log_level, options.log_format, options.log_file)
    settings = Settings(options.state_dir, options.user, options.group, options.stop_timeout, options.port)

    async def run() -> int:
        return await Host(settings, log).run()

    try:
        return asyncio.run(run())
    except HostError as error:
        log.error("%s", error)  # noqa: TRY400 - the words say it all
        if options.log_file is not None:
            print(f"bgp-agent speaker: {error}", file=sys.stderr)  # noqa: T201
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
