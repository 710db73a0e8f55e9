from __future__ import annotations

import base64
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Family
from bgp_agent.speaker import exabgp_config
from bgp_agent.speaker.definition import PeerDefinition

PEER = PeerDefinition("10.42.0.4", 65515, 64512, "10.42.1.4", local_address="10.42.1.4", multihop=8)
SOCKET = Path("/run/x/handover.sock")


def text(**changes: object) -> str:
    return exabgp_config.text(dataclasses.replace(PEER, **changes), SOCKET, "token")  # type: ignore[arg-type]


def test_process_comes_first_so_that_no_later_fault_takes_the_helper_away() -> None:
    assert text().startswith("process agent {")


def test_no_send_block_ever() -> None:
    assert "send" not in text()
    assert "negotiated" not in text()


def test_end_of_rib_is_by_hand_where_routes_may_be_stale_at_the_peer() -> None:
    assert "manual-eor true;" in text()
    assert "graceful-restart 120;" in text()
    assert "graceful-restart" not in text(graceful_restart=0)
    assert "manual-eor false;" in text(graceful_restart=0)


def test_ttl_security_sends_255_and_takes_no_less_than_the_distance_allows() -> None:
    shown = text(ttl_security=2)
    assert "outgoing-ttl 255;" in shown
    assert "incoming-ttl 254;" in shown
    assert "outgoing-ttl 8;" in text()


def test_passive_peer_does_not_connect() -> None:
    shown = exabgp_config.text(dataclasses.replace(PEER, passive=True), SOCKET, "token", listen=179)
    assert "passive true;" in shown
    assert "listen 179;" in shown
    assert "connect" not in shown


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=80))
def test_any_password_arrives_as_it_is_and_nowhere_in_the_clear(password: str) -> None:
    (key,) = re.findall(r'md5-password "([A-Za-z0-9+/=]*)";', text(password=password))
    assert base64.b64decode(key).decode() == password


def test_path_that_would_break_the_configuration_is_refused_with_the_remedy() -> None:
    with pytest.raises(exabgp_config.ConfigError, match="blank"):
        exabgp_config.text(PEER, Path("/run/my dir/handover.sock"), "token")


def test_environment_is_ours_alone_and_always_names_the_user() -> None:
    given_ = {"PATH": "/bin", "exabgp.daemon.user": "mallory", "exabgp_api_ack": "false", "SECRET": "x"}
    made = exabgp_config.environment(given_, "speaker")
    assert made["exabgp.daemon.user"] == "speaker"
    assert made["PATH"] == "/bin"
    assert not {"SECRET", "exabgp_api_ack"} & made.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"password": 'a"b; }'}, {"local_address": None}, {"graceful_restart": 0, "hold_time": 0},
        {"families": (Family.IPV4, Family.IPV6)}, {"ttl_security": 1},
        {"address": "fd00::4", "local_address": "fd00::1", "families": (Family.IPV6,)}, {"passive": True},
    ],
    ids=str,
)  # fmt: skip
def test_exabgp_itself_finds_the_configuration_valid(tmp_path: Path, changes: dict[str, object]) -> None:
    config = tmp_path / "peer.conf"
    config.write_text(text(**changes))
    exabgp = Path(sys.executable).with_name("exabgp")
    done = subprocess.run(
        [exabgp, "validate", config], capture_output=True, text=True, check=False,
        env=exabgp_config.environment({}, "nobody"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_exabgp_runs_is_found_in_the_source_tree() -> None:
    for name in ("exabgp", "launch.py", "handover.py", "exabgp.env"):
        assert (exabgp_config.assets() / name).is_file()
