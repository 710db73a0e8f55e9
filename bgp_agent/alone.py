"""One agent for the routes of one name, whatever its state directory.

The kernel knows whose a route is by table, protocol and metric alone. Two agents with the same three would take turns
in taking out each other's routes, for instance one that systemd runs and one in a container. What they share is the
network namespace, and so is an abstract Unix socket (unix(7)): it goes with its process, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator

from bgp_agent.control.server import caller
from bgp_agent.lock import LockedError

_LOG = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def alone(table: int, protocol: int, metric: int) -> AsyncIterator[None]:
    """Be the only one while inside. Raises :class:`~bgp_agent.lock.LockedError`.

    Anybody can take the name. Where another user than root or this one did, it is said and passed over.
    """
    name = f"\0bgp-agent table {table} protocol {protocol} metric {metric}"
    try:
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), name)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        pid, uid = _holder(name) or (0, None)
        if uid in {0, os.geteuid()}:
            who = f"process {pid}" if pid else "in another container"
            raise LockedError(
                f"another agent ({who}) of this node keeps the routes of table {table}, protocol {protocol}, metric "
                f"{metric}: stop it first, or they would take out each other's"
            ) from None
        _LOG.warning("user %s (process %d), no agent, holds the name that tells two agents apart; going on", uid, pid)
        yield
        return
    try:
        yield
    finally:
        server.close()


def _holder(name: str) -> tuple[int, int] | None:
    """Process and user id of who listens; None when nobody does, which no agent would."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(name)
        except OSError:
            return None
        return caller(asking)
