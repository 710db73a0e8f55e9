"""The commands and their options as data: help, man page, completion and docs/reference/cli.md come from here."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bgp_agent import __version__

PROG: Final = "bgp-agent"
DEFAULT_CONFIG: Final = "/etc/bgp-agent/config.yaml"
DEFAULT_URL: Final = "http://127.0.0.1:9179"
FILES: Final = {"bash": "_shtab_compgen_files", "zsh": "_files"}
"""How a shell completes a file name; shtab's own ``FILE``, without importing shtab for every command."""
ROUTE_STATES: Final = ("installed", "shadowed", "pending", "refused", "stale")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Examples as they stand, everything else wrapped, and no path or option broken at a hyphen."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


@dataclass(frozen=True, slots=True)
class Command:
    """One command. ``call`` is ``module:function``, imported when the command is used; ``options`` adds its options."""

    name: str
    call: str
    help: str
    description: str
    examples: tuple[tuple[str, str], ...]
    options: tuple[Callable[[argparse.ArgumentParser], object], ...] = ()


def seconds(text: str) -> float:
    """A time such as ``90``, ``90s``, ``3m``; in seconds."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    number = text.rstrip("mshd")
    unit = text[len(number) :] or "s"
    if not (number.isascii() and number.isdecimal() and len(number) <= 6 and unit in units and int(number)):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a time such as 90s, 3m or 1h")
    return int(number) * units[unit]


def count(text: str) -> int:
    """A number from 0 on."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number from 0 on")
    return int(text)


def _config(parser: argparse.ArgumentParser) -> object:
    action = parser.add_argument(
        "-c", "--config", metavar="FILE", default=argparse.SUPPRESS,
        help=f"the config file; else $BGP_AGENT_CONFIG, else {DEFAULT_CONFIG}",
    )  # fmt: skip
    action.complete = FILES  # type: ignore[attr-defined]  # where shtab looks for it
    return action


def _json(parser: argparse.ArgumentParser) -> object:
    return parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _url(parser: argparse.ArgumentParser) -> object:
    return parser.add_argument(
        "--url", metavar="URL",
        help=f"where the agent answers; else $BGP_AGENT_URL, else http.listen of a given -c, else {DEFAULT_URL}",
    )  # fmt: skip


def _state_dir(parser: argparse.ArgumentParser) -> object:
    return parser.add_argument(
        "--state-dir", metavar="DIR", help="where the agent's sockets are; else state_dir of the config"
    )


def _target(parser: argparse.ArgumentParser) -> object:
    return parser.add_argument("target", metavar="ADDRESS|PREFIX", help="such as 192.168.2.7 or 192.168.2.0/26")


def _routes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", choices=ROUTE_STATES, help="only routes in this state")
    parser.add_argument("--prefix", metavar="ADDRESS|PREFIX", help="only routes that overlap it")
    parser.add_argument("--limit", metavar="N", type=count, default=1000, help="at most N routes, 0 for all (1000)")
    parser.add_argument("--cursor", metavar="CURSOR", help="go on where the page before ended")


def _drain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="withdraw also where no user-defined route takes over")
    parser.add_argument("--timeout", metavar="TIME", type=seconds, default=180.0, help="how long to wait (180s)")


def _stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="the speaker too: every session ends")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--print-defaults", action="store_true", help="print every key with its default instead")


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help=f"where to write it, - for standard output ({DEFAULT_CONFIG})"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def _cleanup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="also while an agent or a speaker runs")


def _speaker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", metavar="USER", help="the user ExaBGP runs as; else speaker.user of the config")
    parser.add_argument("--stop-timeout", metavar="TIME", type=seconds,
                        help="how long a stop may wait for the agent; else speaker.stop_timeout")  # fmt: skip
    parser.add_argument("--group", metavar="GROUP", help="the group whose agents may attach, beside root and the user")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="else log.level")
    parser.add_argument("--log-format", choices=("console", "json"), help="else log.format")
    parser.add_argument("--log-file", metavar="FILE", help="log to a bounded file instead of standard error")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


COMMANDS: Final = (
    Command(
        "run", "bgp_agent.cli.operate:run", "run the agent",
        "Run the agent in the foreground: announce this node's blocks, install the peers' blocks, show both over HTTP. "
        "TERM ends it within a second; sessions and routes stay. HUP reads config and files again.",
        (("bgp-agent run -c config.yaml", "with this config"),
         ("BGP_AGENT_LOG__LEVEL=debug bgp-agent run", "with one key from the environment")),
        (_config,),
    ),
    Command(
        "speaker", "bgp_agent.cli.operate:speaker", "run the speaker, which holds the BGP sessions",
        "Run the speaker in the foreground: one ExaBGP for each peer. It outlives the agent. With --state-dir it reads "
        "no config at all.",
        (("bgp-agent speaker -c config.yaml", "with this config"),
         ("bgp-agent speaker --state-dir /run/bgp-agent", "without a config file")),
        (_config, _state_dir, _speaker),
    ),
    Command(
        "init", "bgp_agent.cli.configure:init", "write a commented config",
        "Write a config that explains each key. Refuses to replace a file without --force.",
        (("bgp-agent init ./config.yaml", "here"), ("bgp-agent init -", "to standard output")),
        (_init,),
    ),
    Command(
        "check", "bgp_agent.cli.configure:check", "validate the config and print what is in effect",
        "Validate the config with the environment's overrides and print it with every default filled in and every "
        "secret masked. Exit code 2 with file, key and reason when it cannot be used.",
        (("bgp-agent check -c config.yaml", "is it right?"),
         ("bgp-agent check --print-defaults", "what there is to set")),
        (_config, _json, _check),
    ),
    Command(
        "status", "bgp_agent.cli.show:status", "how this node is, problems first",
        "Show mode, readiness, peers, own blocks, source and kernel. Exit code 0 when ready, 1 when not.",
        (("bgp-agent status", "of this node"), ("bgp-agent status --json | jq .peers", "for programs")),
        (_config, _url, _json),
    ),
    Command(
        "routes", "bgp_agent.cli.show:routes", "the learned routes, each with its state and reason",
        "List learned and refused prefixes in the order of their addresses.",
        (("bgp-agent routes --state refused", "what policy keeps out, and why"),
         ("bgp-agent routes --prefix 192.168.2.7", "which routes cover an address")),
        (_config, _url, _json, _routes),
    ),
    Command(
        "explain", "bgp_agent.cli.show:explain", "what happens to a packet for an address or prefix, and why",
        "Say which rule or route decides, what each peer offered, what was refused, and what the kernel would do.",
        (("bgp-agent explain 192.168.2.7", "an address"), ("bgp-agent explain 192.168.2.0/26", "a prefix")),
        (_config, _url, _json, _target),
    ),
    Command(
        "probe", "bgp_agent.cli.show:probe", "ask the network who gets a packet",
        "Send a probe and print who answered. Exit code 0 only when it was delivered to the owner; silence is unknown.",
        (("bgp-agent probe 192.168.2.7", "an address"), ("bgp-agent probe 192.168.2.0/26 --json", "for programs")),
        (_config, _url, _json, _target),
    ),
    Command(
        "doctor", "bgp_agent.cli.examine:doctor", "check this machine before and while the agent runs",
        "Check config, capabilities, sysctls, port 179, ExaBGP, peers, MTU, other daemons' routes and the running "
        "agent. Each finding has its remedy. Exit code 1 when one fails.",
        (("bgp-agent doctor -c config.yaml", "before the first start"), ("bgp-agent doctor --json", "for programs")),
        (_config, _url, _json),
    ),
    Command(
        "drain", "bgp_agent.cli.control:drain", "move the traffic away from BGP",
        "Hand the blocks to the user-defined route, wait until it is in effect, tell every peer that they are about to "
        "go (GRACEFUL_SHUTDOWN, RFC 8326), and withdraw them after bgp.graceful_shutdown. Learned routes stay. It "
        "survives restarts until undrain. Without a user-defined route it would cut the pods and is "
        "refused, unless --force. Exit code 0 when every established peer has acknowledged.",
        (("bgp-agent drain", "before maintenance"),
         ("bgp-agent drain --force --timeout 60s", "withdraw whatever follows")),
        (_config, _state_dir, _json, _drain),
    ),
    Command(
        "undrain", "bgp_agent.cli.control:undrain", "take a drain back",
        "Announce the blocks again.",
        (("bgp-agent undrain", "after maintenance"),),
        (_config, _state_dir, _json),
    ),
    Command(
        "stop", "bgp_agent.cli.control:stop", "end the agent, with --all the speaker too",
        "End the agent as TERM does: sessions, kernel routes and user-defined routes stay. With --all the speaker is "
        "stopped as well, and with it every session.",
        (("bgp-agent stop", "the agent"), ("bgp-agent stop --all", "agent and speaker")),
        (_config, _state_dir, _json, _stop),
    ),
    Command(
        "cleanup", "bgp_agent.cli.cleanup:cleanup", "take out every route, rule and file of the agent",
        "Remove what the agent leaves behind on purpose: kernel routes, the probe's rules, the state directory. "
        "Refused while an agent or a speaker runs.",
        (("bgp-agent stop --all && bgp-agent cleanup", "before the package is removed"),),
        (_config, _json, _cleanup),
    ),
    Command(
        "completion", "bgp_agent.cli.configure:completion", "print the shell completion",
        "Print the completion script for a shell.",
        (("bgp-agent completion bash > /etc/bash_completion.d/bgp-agent", "for everybody, in bash"),),
        (_completion,),
    ),
    Command(
        "version", "bgp_agent.cli.configure:version", "print the version",
        "Print the versions of bgp-agent, ExaBGP, Python and the kernel.",
        (("bgp-agent version --json", "for programs"),),
        (_json,),
    ),
)  # fmt: skip

EXIT_CODES: Final = (
    "exit codes: 0 good; 1 failed, refused or unhealthy (status, doctor and probe judge); 2 wrong usage or config"
)


def _epilog(examples: tuple[tuple[str, str], ...]) -> str:
    width = max(len(line) for line, _ in examples)
    return "examples:\n" + "\n".join(f"  {line:{width}}  # {meaning}" for line, meaning in examples)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Announces a node's pod blocks over BGP, installs the peers' blocks in its kernel and proves both.",
        epilog=_epilog((("bgp-agent status", "how this node is"), ("bgp-agent explain 192.168.2.7", "why")))
        + f"\n\n{EXIT_CODES}",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    parser.add_argument("-c", "--config", metavar="FILE", help=f"the config file ({DEFAULT_CONFIG})")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name, help=command.help, description=command.description, epilog=_epilog(command.examples),
            formatter_class=_Help,
        )  # fmt: skip
        for add in command.options:
            add(sub)
        sub.set_defaults(call=command.call)
    return parser
