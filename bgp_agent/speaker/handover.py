"""Where ExaBGPs' helpers hand over their pipes: one datagram each, a token and two descriptors (SCM_RIGHTS)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: A token is 32 characters; what is longer is none.
_TOKEN: Final = 64


class Handover:
    """The socket at ``path``, for ``account``'s processes. ``take(token, events, commands)`` owns the descriptors.

    Raises :class:`OSError` when it cannot be made.
    """

    def __init__(self, path: Path, account: pwd.struct_passwd, take: Callable[[str, int, int], None]) -> None:
        self._path = path
        self._take = take
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(str(path))
            self._made = _identity(path)
            path.chmod(0o600)
            if account.pw_uid != os.geteuid():
                os.chown(path, account.pw_uid, account.pw_gid)
        except OSError:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def _receive(self) -> None:
        try:
            token, descriptors, _, _ = socket.recv_fds(self._socket, _TOKEN, 4, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return
        if len(descriptors) == 2:
            self._take(token.decode("ascii", "replace"), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the socket. What has its name by now may be another host's, and stays."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._made:
                self._path.unlink()


def _identity(path: Path) -> tuple[int, int, int]:
    """Which file this is; the time is there because a file system may give the number of a removed file again."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns
