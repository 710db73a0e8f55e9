"""``drain``, ``undrain`` and ``stop``: over the agent's control socket."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from bgp_agent.cli import output
from bgp_agent.cli.main import FAILED, GOOD, CommandError
from bgp_agent.cli.places import state_dir
from bgp_agent.control.client import UnreachableError, call, end, listener, wait_for_end
from bgp_agent.control.messages import Outcome, Request

STOP_TIMEOUT: Final = 180.0
"""Seconds for a speaker to stop: it may wait ``speaker.stop_timeout`` (150 s) for the route table."""
AGENT_TIMEOUT: Final = 10.0
"""Seconds for the agent to be gone after it said that it ends."""


def drain(arguments: argparse.Namespace) -> int:
    """``bgp-agent drain``."""
    return _ask(arguments, Request("drain", force=arguments.force, timeout=arguments.timeout))


def undrain(arguments: argparse.Namespace) -> int:
    """``bgp-agent undrain``."""
    return _ask(arguments, Request("undrain"))


def stop(arguments: argparse.Namespace) -> int:
    """``bgp-agent stop``: the agent, with ``--all`` the speaker too, also when no agent runs."""
    folder = state_dir(arguments)
    pid = listener(folder / "agent.sock")
    if pid is None and arguments.all:
        _progress("no agent runs")
        return _tell(arguments, _end_speaker(folder))
    outcome = _call(folder, Request("stop", everything=arguments.all, timeout=STOP_TIMEOUT))
    if outcome.good and pid and not wait_for_end(pid, AGENT_TIMEOUT):
        outcome = Outcome(good=False, reason=f"the agent (process {pid}) said that it ends, but has not")
    if outcome.good and arguments.all:
        _end_speaker(folder)  # what the agent could not end, or what was started meanwhile
    return _tell(arguments, outcome)


def _end_speaker(folder: Path) -> Outcome:
    return end(folder / "speaker.sock", STOP_TIMEOUT)


def _ask(arguments: argparse.Namespace, request: Request) -> int:
    return _tell(arguments, _call(state_dir(arguments), request))


def _call(folder: Path, request: Request) -> Outcome:
    try:
        return call(folder / "agent.sock", request, _progress)
    except UnreachableError as error:
        raise CommandError(str(error)) from None


def _progress(text: str) -> None:
    """Steps go to standard error: what is printed is the outcome."""
    print(output.clean(text), file=sys.stderr, flush=True)


def _tell(arguments: argparse.Namespace, outcome: Outcome) -> int:
    if arguments.json:
        output.json_value({"good": outcome.good, "reason": outcome.reason})
    elif outcome.good:
        print(output.clean(outcome.reason))
    else:
        raise CommandError(output.clean(outcome.reason))
    return GOOD if outcome.good else FAILED
