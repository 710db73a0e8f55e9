"""Reading /proc: of a made-up machine, and of the real one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from bgp_agent.doctor.machine import CAP_NET_ADMIN, Machine, Process

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(port: int, state: str, inode: int) -> str:
    return f"   0: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  0 0 {inode} 1\n"


def process(proc: Path, pid: int, *words: str, sockets: tuple[int, ...] = ()) -> None:
    (proc / str(pid) / "fd").mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")
    for number, inode in enumerate(sockets):
        (proc / str(pid) / "fd" / str(number)).symlink_to(f"socket:[{inode}]")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(HEAD + row(179, "0A", 11) + row(179, "01", 12) + row(22, "0A", 13))
    process(tmp_path, 1, "/sbin/init", sockets=(13,))
    process(tmp_path, 7, "/usr/sbin/bird", "-f", sockets=(12, 11))
    return tmp_path


def test_the_process_that_listens_is_named(proc: Path) -> None:
    taken, processes = Machine(proc).listeners(179)
    assert taken
    assert [one.pid for one in processes] == [7]
    assert processes[0].name == "bird"


def test_a_port_with_connections_but_no_listener_is_free(proc: Path) -> None:
    (proc / "net" / "tcp").write_text(HEAD + row(179, "01", 12))
    assert Machine(proc).listeners(179) == (False, ())


def test_a_listener_of_another_user_is_seen_but_not_named(proc: Path) -> None:
    (proc / "net" / "tcp6").write_text(HEAD + row(179, "0A", 99).replace("00000000:00B3", "0" * 32 + ":00B3"))
    (proc / "net" / "tcp").write_text(HEAD)
    assert Machine(proc).listeners(179) == (True, ())


def test_the_real_machine_can_be_read() -> None:
    machine = Machine()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken, processes = machine.listeners(listening.getsockname()[1])
    assert taken
    assert os.getpid() in {one.pid for one in processes}
    assert machine.same_network(os.getpid())
    assert not machine.same_network(2**22)
    assert machine.clock_is_set() in {True, False, None}
    if os.geteuid() == 0 and os.environ.get("LAB_SANDBOX"):
        assert machine.capabilities() & 1 << CAP_NET_ADMIN


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (("/usr/bin/python3", "/usr/bin/bgp-agent", "run", "-c", "x"), True),
        (("bgp-agent", "run"), True),
        (("python3", "-m", "bgp_agent", "run"), True),
        (("python3", "-m", "bgp_agent.run"), True),
        (("vim", "bgp-agent"), False),
        (("sudo", "bgp-agent", "run"), False),
        (("docker", "run", "bgp-agent"), False),
        (("/usr/bin/python3.11", "-I", "/opt/bgp-agent/bin/bgp-agent", "run"), True),
        (("bgp-agent", "status"), False),
        (("docker", "run", "--name", "bgp", "x"), False),
        ((), False),
    ],
)
def test_our_processes_are_told_from_others(words: tuple[str, ...], ours: bool) -> None:
    assert Process(1, words).is_ours("run") is ours
