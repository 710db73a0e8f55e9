from __future__ import annotations

import socket
import struct

import pytest

from bgp_agent.kernel.wire import NLMSG_ERROR
from bgp_agent.probe import netlink
from bgp_agent.probe.netlink import Netlink


def test_a_cut_off_answer_is_an_error_not_a_loop() -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, Netlink(lambda *_: ours) as talking:
        kernel.send(struct.pack("=IHHII", 4, 24, 0, 1, 0))
        with pytest.raises(OSError, match="makes no sense"):
            talking.request(netlink.RTM_NEWROUTE, 0, b"")


def test_answers_to_somebody_else_are_passed_over_and_ours_is_raised() -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, Netlink(lambda *_: ours) as talking:
        kernel.send(struct.pack("=IHHIIi", 20, NLMSG_ERROR, 0, 77, 0, 0))
        kernel.send(struct.pack("=IHHIIi", 20, NLMSG_ERROR, 0, 1, 0, -1))
        with pytest.raises(PermissionError):
            talking.request(netlink.RTM_NEWROUTE, 0, b"")


def test_a_kernel_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "TIMEOUT", 0.05)
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, Netlink(lambda *_: ours) as talking, pytest.raises(TimeoutError):
        talking.request(netlink.RTM_NEWROUTE, 0, b"")
