"""init, check, completion, version, usage: the commands that need no agent."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path

import pytest

from bgp_agent import __version__
from bgp_agent.cli.parser import COMMANDS, FILES, seconds
from tests.unit.cli.conftest import Command

GOOD = "pools: [192.168.0.0/16]\nbgp: {asn: 64512, peers: [{address: 10.42.0.4, asn: 65515}]}\n"


def test_a_config_that_init_wrote_is_one_that_check_takes(bgp_agent: Command, tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yaml"
    done = bgp_agent("init", path)
    assert done.code == 0
    assert f"bgp-agent check -c {path}" in done.out
    checked = bgp_agent("check", "-c", path)
    assert checked.code == 0, checked.err
    assert [one.name for one in path.parent.iterdir()] == ["config.yaml"]


def test_init_replaces_a_file_only_when_forced(bgp_agent: Command, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mine")
    done = bgp_agent("init", path)
    assert done.code == 1
    assert "--force" in done.err
    assert path.read_text() == "mine"
    assert bgp_agent("init", path, "--force").code == 0
    assert path.read_text() != "mine"
    assert bgp_agent("init", "-").out == path.read_text()


@pytest.mark.parametrize(("user", "reason"), [("nobody-of-that-name", "there is no user 'nobody-of-that-name'")])
def test_a_speaker_user_that_cannot_run_exabgp_is_refused_with_the_key(
    bgp_agent: Command, tmp_path: Path, user: str, reason: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD + f"speaker: {{user: {user}}}\n")
    done = bgp_agent("check", "-c", path)
    assert done.code == 2
    assert f"{path}: speaker.user: {reason}" in done.err
    assert done.out == ""


def test_a_speaker_user_that_can_run_exabgp_is_taken(bgp_agent: Command, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD + f"speaker: {{user: {pwd.getpwuid(os.geteuid()).pw_name}}}\n")
    done = bgp_agent("check", "-c", path)
    assert done.code == 0, done.err


def test_check_warns_of_a_password_file_that_is_not_there(bgp_agent: Command, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD.replace("asn: 65515", "asn: 65515, password_file: key"))
    done = bgp_agent("check", "-c", path)
    assert done.code == 0
    assert f"warning: {path}: peer 10.42.0.4: password_file {tmp_path}/key is not there" in done.err
    (tmp_path / "key").write_text("hunter2\n")
    done = bgp_agent("check", "-c", path)
    assert "warning" not in done.err
    assert "hunter2" not in done.out + done.err


def test_init_where_nothing_can_be_written_is_said(bgp_agent: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = bgp_agent("init", tmp_path / "file" / "config.yaml")
    assert done.code == 1
    assert "cannot be written" in done.err


def test_check_says_what_is_left_to_azure_beside_what_it_prints(bgp_agent: Command, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    words = "discovered on Azure when the agent runs: "
    path.write_text("pools: [192.168.0.0/16]\nazure: {}\n")
    done = bgp_agent("check", "-c", path, "--json")
    assert (done.code, json.loads(done.out)["bgp"]["asn"]) == (0, None)
    assert f"{words}bgp.asn, bgp.peers, azure.route_server, azure.route_tables" in done.err
    path.write_text(GOOD + "azure: {}\n")
    assert f"{words}azure.route_server, azure.route_tables" in bgp_agent("check", "-c", path).err
    path.write_text(GOOD)
    assert words not in bgp_agent("check", "-c", path).err


def test_check_prints_the_effective_config_with_the_environment_in_it(bgp_agent: Command, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    done = bgp_agent("check", "-c", path, "--json", env={"BGP_AGENT_LOG__LEVEL": "debug", "BGP_AGENT_PORT": "tcp://x"})
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert shown["log"]["level"] == "debug"
    assert shown["kernel"]["metric"] == 4096
    assert "BGP_AGENT_PORT" in done.err
    again = tmp_path / "again.yaml"
    again.write_text(bgp_agent("check", "-c", path).out)
    assert bgp_agent("check", "-c", again).code == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("bgp: {asn: 64512", "config.yaml:"),
        (GOOD + "colour: red\n", "colour"),
        (GOOD.replace("64512", "no"), "bgp.asn"),
    ],
)
def test_a_config_that_cannot_be_used_is_exit_2_with_file_and_key(
    bgp_agent: Command, tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    for command in ("check", "run", "speaker"):
        done = bgp_agent(command, "-c", path)
        assert done.code == 2, (command, done)
        assert str(path) in done.err
        assert why in done.err
        assert done.out == ""


def test_a_missing_config_names_init(bgp_agent: Command, tmp_path: Path) -> None:
    done = bgp_agent("check", env={"BGP_AGENT_CONFIG": str(tmp_path / "none.yaml")})
    assert done.code == 2
    assert f"{tmp_path}/none.yaml" in done.err
    assert "bgp-agent init" in done.err


def test_print_defaults_needs_no_config(bgp_agent: Command) -> None:
    shown = json.loads(bgp_agent("check", "--print-defaults", "--json").out)
    assert shown["http"]["listen"] == "127.0.0.1:9179"
    assert shown["azure"]["settle"] == "30s"
    assert (shown["fallback"]["mode"], shown["fallback"]["min_peers"]) == ("standby", "all")


def test_a_secret_is_not_printed(bgp_agent: Command, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret-key\n")
    path = tmp_path / "config.yaml"
    path.write_text(GOOD.replace("asn: 65515", "asn: 65515, password_file: password"))
    done = bgp_agent("check", "-c", path)
    assert done.code == 0, done.err
    assert "s3cret-key" not in done.out + done.err
    assert str(tmp_path / "password") in done.out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_command(bgp_agent: Command, shell: str) -> None:
    text = bgp_agent("completion", shell).out
    for command in COMMANDS:
        assert re.search(rf"\b{command.name}\b", text)
    assert FILES[shell] in text


def test_version_names_what_a_bug_report_needs(bgp_agent: Command) -> None:
    found = json.loads(bgp_agent("version", "--json").out)
    assert found["bgp-agent"] == __version__
    assert set(found) == {"bgp-agent", "exabgp", "python", "kernel"}
    assert bgp_agent("--version").out == f"bgp-agent {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_each_command_has_examples_that_parse(bgp_agent: Command, command: object) -> None:
    name = getattr(command, "name", "")
    text = bgp_agent(name, "-h").out
    assert "examples:" in text
    assert f"bgp-agent {name}" in text


@pytest.mark.parametrize("words", [(), ("nonsense",), ("routes", "--limit", "-1"), ("routes", "--state", "gone"),
                                   ("drain", "--timeout", "soon"), ("explain",), ("status", "--colour")])  # fmt: skip
def test_wrong_usage_is_exit_2(bgp_agent: Command, words: tuple[str, ...]) -> None:
    done = bgp_agent(*words)
    assert done.code == 2
    assert "usage: bgp-agent" in done.err


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("3m", 180), ("1h", 3600), ("500ms", 0.5)])
def test_times_are_written_as_in_the_config(text: str, value: float) -> None:
    assert seconds(text) == value
