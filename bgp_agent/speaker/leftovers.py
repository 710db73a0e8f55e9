"""ExaBGPs of a host that died, found by their configuration file and ended: never two sessions to one peer.

They end with their host by themselves (PR_SET_PDEATHSIG); this is for the moment before they do, and for a kernel or a
container that forgot.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


def end(folder: Path, patience: float = 5.0) -> list[int]:
    """End every ExaBGP that runs from a configuration in ``folder`` and wait until it is gone; their process ids.

    ``patience``: seconds to wait for all. Raises :class:`TimeoutError` when one does not go.
    """
    ended = list(_ended(folder))
    deadline = time.monotonic() + patience
    for pid, handle in ended:
        with os.fdopen(handle):
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError(f"process {pid} (an ExaBGP of an earlier speaker) does not end; end it by hand")
    return [pid for pid, _ in ended]


def _ended(folder: Path) -> Iterator[tuple[int, int]]:
    for pid in (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()):
        if not _is_ours(pid, folder):
            continue
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if _is_ours(pid, folder):  # still the same process, now that the handle pins it
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            yield pid, handle
        else:
            os.close(handle)


def _is_ours(pid: int, folder: Path) -> bool:
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    paths = [Path(os.fsdecode(word)) for word in words]
    return any(path.name == "exabgp" for path in paths) and any(
        path.parent == folder and path.suffix == ".conf" for path in paths
    )
