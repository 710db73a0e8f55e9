"""The kernel's refusals as sentences: what, where, and the remedy."""

from __future__ import annotations

import errno
import os
from typing import Final

from bgp_agent.core.fib import Failure, Operation, Verb
from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.prefix import address_text, prefix_text
from bgp_agent.core.values import Hop, Unicast
from bgp_agent.kernel.wire import Refusal

NOT_PERMITTED: Final = "the kernel does not let this process change routes: it needs CAP_NET_ADMIN"

_MEANING: Final = {
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTUNREACH: "next hop unreachable",
    errno.ENETDOWN: "the link is down",
    errno.ENODEV: "no such link",
    errno.EINVAL: "the kernel calls it invalid",
    errno.ENOMEM: "the kernel has no memory for it",
    errno.ENOSPC: "the kernel's limit of routes is reached (net.ipv6.route.max_size)",
    errno.EAFNOSUPPORT: "the kernel does not have this address family",
    errno.EOPNOTSUPP: "the kernel does not support it",
}


def failure(operation: Operation, said: Refusal, next_hops: NextHops) -> Failure:
    """A refusal as the core takes it: errno, and why in words."""
    return Failure(said.errno, _words(operation, said, next_hops))


def _words(operation: Operation, said: Refusal, next_hops: NextHops) -> str:
    if said.errno in (errno.EPERM, errno.EACCES):
        return NOT_PERMITTED
    if said.errno == errno.EEXIST and operation.verb is Verb.CREATE:
        return f"somebody's route for {prefix_text(operation.prefix)} stands at our metric; looking whose it is"
    words = _MEANING.get(said.errno) or os.strerror(said.errno)
    target = operation.target
    if isinstance(target, Unicast):
        down = {why for hop in target.hops if (why := next_hops.down(hop.interface)) is not None}
        if down:
            return f"{words}: {', '.join(sorted(down))}"
        hops = " and ".join(_hop(hop, next_hops) for hop in target.hops)
        words = f"{words}: {hops}"
    return f"{words} ({said.text.rstrip('.')})" if said.text else words


def _hop(hop: Hop, next_hops: NextHops) -> str:
    link = next_hops.interface(hop.interface)
    return f"on {link}" if hop.gateway is None else f"via {address_text(hop.gateway)} on {link}"


def unwritable(error: OSError) -> Failure:
    """The writing socket itself failed."""
    return Failure(error.errno or errno.EIO, f"the kernel could not be written to: {error}; trying again")
