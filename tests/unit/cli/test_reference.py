"""The reference and the examples say what the parser takes."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path

import pytest

from bgp_agent.cli import reference
from bgp_agent.cli.parser import COMMANDS, ROUTE_STATES, Command, build_parser
from bgp_agent.core.values import RouteState

DOCS = Path(__file__).parents[3] / "docs" / "reference"


def test_the_page_is_made_from_the_parser() -> None:
    assert (DOCS / "cli.md").read_text() == reference.page(), "make docs"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_every_example_is_one_that_the_parser_takes(command: Command) -> None:
    for line, meaning in command.examples:
        assert meaning
        for part in line.replace("|", "&&").split("&&"):
            words = [word for word in shlex.split(part.split(">")[0]) if not word.startswith("BGP_AGENT_")]
            if words[0] == "bgp-agent":
                build_parser().parse_args(words[1:])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_help_fits_a_terminal_and_breaks_no_path(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        build_parser().parse_args([command.name, "-h"])
    shown, _, _ = capsys.readouterr().out.partition("\nexamples:")
    assert max(map(len, shown.splitlines())) <= 80
    assert not any(line.endswith("bgp-") for line in shown.splitlines())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_every_command_exists(command: Command) -> None:
    module, _, function = command.call.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_states_are_the_contracts() -> None:
    assert {state.value for state in RouteState} == set(ROUTE_STATES)
