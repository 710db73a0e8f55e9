"""The configuration in force: what could not be read is worth another try, what is wrong is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgp_agent.config import load
from bgp_agent.configuring import Configuration

CONFIG = """
node: {name: n, address: 10.0.0.1}
pools: [192.168.0.0/16]
bgp:
  asn: 64512
  peers: [{address: 10.0.0.2, asn: 65515}]
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return Configuration(load(path, {}), {})


def test_a_file_that_is_wrong_is_refused_and_not_tried_again(configuration: Configuration) -> None:
    configuration.loaded.path.write_text("no: such key")
    assert configuration.reload() is None
    assert "no" in str(configuration.identity.config_problem)
    assert not configuration.unread


def test_a_file_that_could_not_be_read_is_worth_another_try(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used_up(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", used_up)
        assert configuration.reload() is None
    assert configuration.unread
    assert "Too many open files" in str(configuration.identity.config_problem)
    assert configuration.reload() is not None
    assert not configuration.unread
    assert configuration.identity.config_problem is None


def test_a_password_file_that_could_not_be_read_is_worth_another_try(
    configuration: Configuration, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.mkdir()
    configuration.loaded.path.write_text(CONFIG.replace("65515", f"65515, password_file: {key}"))
    assert configuration.reload() is not None
    configuration.locate()
    configuration.definitions()
    assert configuration.unread
    key.rmdir()
    key.write_text("s3cret")
    configuration.definitions()
    assert not configuration.unread
