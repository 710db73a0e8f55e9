"""From the arguments to a command and from its errors to words and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, cast

from bgp_agent.cli.parser import PROG, build_parser

GOOD: Final = 0
FAILED: Final = 1
WRONG: Final = 2


class CommandError(Exception):
    """A command cannot do what it was asked; the message says what, where and the remedy. ``code``: the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        code = _command(arguments)(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, a pager) has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
    except KeyboardInterrupt:
        return 130
    except CommandError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return error.code
    return code


def _command(arguments: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    module, _, function = arguments.call.partition(":")
    return cast("Callable[[argparse.Namespace], int]", getattr(importlib.import_module(module), function))
