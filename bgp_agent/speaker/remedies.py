"""Why an ExaBGP ended, in words, with the remedy where one is known."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_DISK: Final = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EIO})

#: What ExaBGP's last words mean, and what to do about it.
_REMEDIES: Final = (
    ("No module named 'exabgp", "ExaBGP is not installed beside this program: pip install exabgp==5.0.15"),
    ("can not bind to", "a passive peer's ExaBGP cannot listen on port {port}: free it, or give CAP_NET_BIND_SERVICE"),
    ("could not drop privileges", "ExaBGP cannot become its user: set speaker.user to who runs the speaker"),
    ("could not load/reload configuration", "ExaBGP refused its configuration"),
)


def explain(code: int, last_words: Sequence[str], port: int = 179) -> str:
    """Why an ExaBGP ended, from its exit code and the end of its log, with the remedy where one is known."""
    end = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    for words, remedy in _REMEDIES:
        if any(words in line for line in last_words):
            return f"ExaBGP ended {end}: {remedy.format(port=port)} (it said: {last_words[-1][:300]})"
    said = f": {last_words[-1][:300]}" if last_words else " without a word"
    return f"ExaBGP ended {end}{said}"


def no_start(error: Exception, folder: Path) -> str:
    """Why an ExaBGP could not even be started from its configuration in ``folder``."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"ExaBGP cannot be started: {unwritable(folder, os.strerror(error.errno))}"
    return f"ExaBGP cannot be started: {error}"


def unwritable(folder: Path, why: str) -> str:
    """Nothing can be written in ``folder``, with the remedy. ``why``: the kernel's words."""
    return f"{folder} cannot be written ({why}): make room there, or mount it writable; it is tried again"
