from __future__ import annotations

import errno

import pytest

from bgp_agent.core.fib import Operation, Verb
from bgp_agent.core.nexthop import Link, NextHops
from bgp_agent.core.prefix import parse_address, parse_prefix
from bgp_agent.core.values import Blackhole, Hop, Target, Unicast
from bgp_agent.kernel.wire import Refusal
from bgp_agent.kernel.words import failure, unwritable

P = parse_prefix("192.168.2.0/26")
VIA = Unicast((Hop(2, parse_address("10.42.1.1")), Hop(3, None)))


@pytest.mark.parametrize(
    ("code", "said", "target", "words"),
    [
        (errno.EPERM, "", VIA, "the kernel does not let this process change routes: it needs CAP_NET_ADMIN"),
        (errno.EEXIST, "", VIA, "somebody's route for 192.168.2.0/26 stands at our metric; looking whose it is"),
        (errno.ENETUNREACH, "Nexthop has invalid gateway.", VIA,
         "network unreachable: via 10.42.1.1 on eth0 and on eth1 (Nexthop has invalid gateway)"),
        (errno.EINVAL, "", Blackhole(), "the kernel calls it invalid"),
        (errno.EXDEV, "odd", Blackhole(), "Invalid cross-device link (odd)"),
    ],
)  # fmt: skip
def test_each_refusal_is_a_sentence(code: int, said: str, target: Target, words: str) -> None:
    next_hops = NextHops(179)
    next_hops.replace_links([Link(2, "eth0", True, True, 1500), Link(3, "eth1", True, True, 1500)])  # noqa: FBT003
    assert failure(Operation(Verb.CREATE, P, 254, 1, target), Refusal(code, 1, said), next_hops) == (code, words)


def test_a_link_that_is_down_is_named_as_the_cause() -> None:
    next_hops = NextHops(179)
    next_hops.replace_links([Link(2, "eth0", up=False, running=False, mtu=1500)])
    said = failure(Operation(Verb.CREATE, P, 254, 1, VIA), Refusal(errno.ENETUNREACH, 1, "no"), next_hops)
    assert said.words == "network unreachable: the link eth0 is down, the link with index 3 is gone"


def test_a_socket_that_fails_is_named() -> None:
    assert unwritable(OSError(errno.EBADF, "Bad file descriptor")) == (
        errno.EBADF, "the kernel could not be written to: [Errno 9] Bad file descriptor; trying again"
    )  # fmt: skip
