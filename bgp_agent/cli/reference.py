"""docs/reference/cli.md, made from the parser so that neither can know what the other does not."""

from __future__ import annotations

import argparse
from typing import Final

from bgp_agent.cli.parser import COMMANDS, DEFAULT_CONFIG, DEFAULT_URL, Command

_OPENING: Final = f"""# Command line

<!-- made by `make docs` from bgp_agent/cli/parser.py -->

`bgp-agent COMMAND -h` shows the same with examples. `bgp-agent completion bash` (or `zsh`) prints shell completion.

| exit code | meaning |
|---|---|
| 0 | good |
| 1 | failed, refused or unhealthy; of the commands that only look, `status`, `doctor` and `probe` judge |
| 2 | wrong usage or a config that cannot be used |

**Where the config is**: `-c FILE`, else `$BGP_AGENT_CONFIG`, else `{DEFAULT_CONFIG}`.
**Where the agent answers** (`status`, `routes`, `explain`, `probe`): `--url`, else `$BGP_AGENT_URL`, else `http.listen`
of a given `-c`, else `{DEFAULT_URL}`.
**Which sockets** (`drain`, `undrain`, `stop`): those in `--state-dir`, else in `state_dir` of the config.

On a terminal tables have colours (not with `NO_COLOR`); in a pipe they are plain aligned text. `--json` is for
programs: its fields are those of [the HTTP interface](http.md). Steps and errors go to standard error.

| command | |
|---|---|
"""


def page() -> str:
    """The whole page."""
    index = "".join(f"| [`{one.name}`](#{one.name}) | {one.help} |\n" for one in COMMANDS)
    return _OPENING + index + "".join(_section(one) for one in COMMANDS)


def _section(command: Command) -> str:
    parser = argparse.ArgumentParser(add_help=False)
    for add in command.options:
        add(parser)
    rows = "".join(_row(action) for action in parser._actions)  # noqa: SLF001 - argparse has no public list
    examples = "\n".join(f"{line}  # {meaning}" for line, meaning in command.examples)
    table = f"| option | |\n|---|---|\n{rows}\n" if rows else ""
    return f"\n## {command.name}\n\n{command.description}\n\n{table}```sh\n{examples}\n```\n"


def _row(action: argparse.Action) -> str:
    value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else "")
    shown = "" if action.nargs == 0 else str(value)
    names = ", ".join(f"`{name}{' ' + shown if shown else ''}`" for name in action.option_strings) or f"`{shown}`"
    return f"| {names} | {action.help or ''} |\n".replace("ADDRESS|PREFIX", r"ADDRESS\|PREFIX")
