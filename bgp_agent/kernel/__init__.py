"""The kernel's side: netlink, routes, links, sysctls (rtnetlink(7)).

:class:`~bgp_agent.kernel.shell.Kernel` is what the agent uses; the decisions are in :mod:`bgp_agent.core.fib` and
:mod:`bgp_agent.core.nexthop`.
"""

from bgp_agent.kernel.shell import Changed, Kernel

__all__ = ["Changed", "Kernel"]
