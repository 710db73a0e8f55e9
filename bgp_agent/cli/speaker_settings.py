"""What the speaker needs of the config: ``python -m bgp_agent.cli.speaker_settings FILE``, a process of its own.

Reading a config takes 25 MiB of libraries that would stay in the speaker for ever.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bgp_agent.cli.main import CommandError
from bgp_agent.cli.places import load_config


def main(path: str) -> int:
    """Print the settings as JSON, by the names of the speaker's options; 2 with the reason when there is none."""
    try:
        config = load_config(Path(path)).config
    except CommandError as error:
        print(error, file=sys.stderr)
        return error.code
    settings: dict[str, str | float | None] = {
        "state_dir": config.state_dir,
        "user": config.speaker.user,
        "stop_timeout": config.speaker.stop_timeout,
        "log_level": config.log.level,
        "log_format": config.log.format,
    }
    print(json.dumps({name: value for name, value in settings.items() if value is not None}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
