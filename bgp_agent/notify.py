"""Word to systemd: ready, stopping, alive (sd_notify(3), systemd.service(5) ``Type=notify`` and ``WatchdogSec=``).

The protocol is one datagram. The libraries found for it are either a binding that needs libsystemd's headers and a
compiler (cysystemd) or small packages without a release for years (sdnotify: 2017); the few lines below replace them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send ``READY=1``, ``STATUS=...``, ``STOPPING=1`` or ``WATCHDOG=1``; False when nobody asked to be told.

    Never raises: whether systemd hears it must not decide whether the node routes.
    """
    path = environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state.encode(), "\0" + path[1:] if path[0] == "@" else path)
    except OSError:
        return False
    return True


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Half of the time systemd waits for a sign of life, in seconds; None without a watchdog for this process."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdecimal() and int(usec) > 0) or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000


async def watchdog(alive: Callable[[], bool], environ: Mapping[str, str] = os.environ) -> None:
    """Give signs of life while ``alive()`` and the event loop turns; returns at once without a watchdog."""
    interval = watchdog_interval(environ)
    while interval is not None:
        if alive():
            notify("WATCHDOG=1", environ)
        await asyncio.sleep(interval)
