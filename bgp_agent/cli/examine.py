"""``doctor``: the preflight checks as a table, worst last so that it is what stays on the screen."""

from __future__ import annotations

import argparse
import asyncio

from bgp_agent.cli import answers, output
from bgp_agent.cli.client import Agent
from bgp_agent.cli.main import FAILED, GOOD, CommandError
from bgp_agent.cli.places import agent_url, config_path, listen_url, load_config
from bgp_agent.doctor.checks import Context
from bgp_agent.doctor.examination import examine
from bgp_agent.doctor.findings import Finding, Verdict
from bgp_agent.doctor.machine import Machine


def doctor(arguments: argparse.Namespace) -> int:
    """``bgp-agent doctor``: exit 1 when a check fails."""
    found: list[Finding] = []
    good = asyncio.run(examine(_context(arguments), found.append))
    if arguments.json:
        output.json_value([
            {"check": one.check, "verdict": one.verdict.value, "seen": one.seen, "remedy": one.remedy} for one in found
        ])  # fmt: skip
    else:
        _print(found)
    return GOOD if good else FAILED


def _context(arguments: argparse.Namespace) -> Context:
    try:
        loaded, problem = load_config(config_path(arguments)), ""
    except CommandError as error:
        loaded, problem = None, str(error)
    try:
        given = arguments.url or loaded is None
        url = agent_url(arguments) if given else listen_url(loaded.config.http.listen) if loaded else ""
        status, silence = Agent(url).ask("/status", answers.Status)[1], ""
    except CommandError as error:
        status, silence = None, str(error)
    return Context(Machine(), loaded, problem, status, silence)


def _print(found: list[Finding]) -> None:
    width = max(len(one.check) for one in found)
    for one in found:
        mark = output.state(one.verdict.value) + " " * (4 - len(one.verdict.value))
        print(f"{mark}  {one.check:{width}}  {output.clean(one.seen.splitlines()[0] if one.seen else '')}")
        for line in one.seen.splitlines()[1:]:
            print(f"      {'':{width}}  {output.clean(line)}")
        if one.remedy:
            print(f"      {'':{width}}  -> {output.clean(one.remedy)}")
    counts = {verdict: sum(one.verdict is verdict for one in found) for verdict in Verdict}
    print(f"\n{counts[Verdict.FAIL]} failed, {counts[Verdict.WARN]} to look at, {counts[Verdict.OK]} good")
