"""The program that ExaBGP starts for its API: it hands its two pipes to the speaker host and then holds its place.

``handover.py SOCKET TOKEN``. ExaBGP writes events to this program's standard input and reads commands from its standard
output. Both go to the host in one datagram (SCM_RIGHTS), so that the host reads ExaBGP without a process in between.
What stays is ``sleep``: ExaBGP wants to see a living child. Run with ``-I -S``: nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Hand the pipes over, let go of them, and wait to be ended."""
    exabgp = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # kept across exec
    if os.getppid() != exabgp:
        sys.exit(1)
    path, token = sys.argv[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.connect(path)
        socket.send_fds(host, [token.encode()], [0, 1])
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):  # the host has them; when it ends, ExaBGP shall notice
        os.dup2(nowhere, descriptor)
    try:
        os.execvp("sleep", ["sleep", "infinity"])  # noqa: S606 - the point of it
    except OSError:  # an image without coreutils
        signal.pause()


main()
