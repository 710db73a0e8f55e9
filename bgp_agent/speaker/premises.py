"""Where the host lives: its state directory, held by one host at a time, its sockets, and the user of its ExaBGPs."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bgp_agent.speaker.handover import Handover
from bgp_agent.speaker.process import Place


class HostError(Exception):
    """The speaker cannot run; the message says why and what to do."""


class TakenError(HostError):
    """Another speaker has the state directory."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the host runs.

    ``user``: who runs ExaBGPs, None for whoever runs the host. ``group``: whose agents may attach beside the same
    user's and root's. ``stop_timeout``: seconds an agent may take to move the traffic away before a planned stop.
    ``port``: where peers knock, and where a passive peer's ExaBGP listens.
    """

    state_dir: Path
    user: str | None = None
    group: str | None = None
    stop_timeout: float = 150.0
    port: int = 179

    @property
    def socket(self) -> Path:
        """Where agents attach."""
        return self.state_dir / "speaker.sock"


def place(settings: Settings) -> Place:
    """Where and as whom ExaBGPs run. Raises :class:`HostError`."""
    try:
        account = pwd.getpwnam(settings.user) if settings.user else pwd.getpwuid(os.geteuid())
    except KeyError:
        if settings.user:
            raise HostError(f"speaker.user: there is no user {settings.user!r} here") from None
        account = pwd.struct_passwd(("nobody", "x", os.geteuid(), os.getegid(), "", "/", "/bin/false"))
    if account.pw_uid != os.geteuid() and os.geteuid() != 0:
        raise HostError(f"speaker.user {settings.user!r}: only root can run ExaBGP as somebody else; leave it out")
    folder = settings.state_dir / "exabgp"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if account.pw_uid != os.geteuid():
            os.chown(folder, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise HostError(f"cannot use {folder}: {error.strerror}; it holds ExaBGP's configuration") from None
    return Place(folder.resolve(), folder.resolve() / "handover.sock", account, settings.port)


class Hold:
    """The state directory, held by one host at a time: two would mean two sessions to one peer.

    Raises :class:`HostError` when another host has it, or when it cannot be made.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "speaker.lock"
        self._file = self._lock()

    def stands(self) -> bool:
        """Is the lock still what its name says; False when somebody removed the directory, or has another one there."""
        try:
            there = self._path.stat()
        except OSError:
            return False
        ours = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def renew(self) -> None:
        """Hold what is there now, made again when missing. Raises :class:`HostError` when another host was faster."""
        renewed = self._lock()
        self._file.close()
        self._file = renewed

    def close(self) -> None:
        """Give it up."""
        self._file.close()

    def _lock(self) -> IO[str]:
        state_dir = self._path.parent
        try:
            state_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(f"state_dir {state_dir} cannot be used: {error.strerror}") from None
        file = os.fdopen(descriptor, "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = file.read(32).strip() or "unknown"
            file.close()
            raise TakenError(f"another speaker (process {other}) runs with state_dir {state_dir}") from None
        with contextlib.suppress(
            OSError
        ):  # a full disk: the directory is held, and only the word of who holds it is missing
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return file


def handover(where: Place, take: Callable[[str, int, int], None]) -> Handover:
    """The socket for ExaBGPs' helpers. Raises :class:`HostError`."""
    try:
        return Handover(where.handover, where.account, take)
    except OSError as error:
        raise HostError(f"cannot listen on {where.handover}: {error.strerror or error}; is the path short?") from None


def listen(settings: Settings) -> socket.socket:
    """The socket for agents, in place of one that a dead host left. Raises :class:`HostError`."""
    path = settings.socket
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise HostError(f"cannot listen on {path}: {error.strerror or error}") from None
    try:
        listening.bind(str(temporary))
        temporary.chmod(0o600)
        if settings.group is not None:
            os.chown(temporary, -1, _group_id(settings.group))
            temporary.chmod(0o660)
        listening.listen(8)
        temporary.replace(path)
    except OSError as error:
        listening.close()
        raise HostError(f"cannot listen on {path}: {error.strerror or error}") from None
    return listening


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise HostError(f"speaker.group: there is no group {name!r} here") from None
