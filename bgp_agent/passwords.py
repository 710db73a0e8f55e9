"""The peers' TCP-MD5 keys (RFC 2385), read from their files.

A key that was read once outlives its file: a file that is gone, empty or unreadable for a moment, as happens while a
secret is rotated, is no evidence that the peer lost its key, nor is a file with something else in it; the session that
stands on the key goes on, also when it is another agent that began it. A file that was never read keeps its peer down,
with the reason: never a session without its key.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from bgp_agent.speaker.definition import MAX_PASSWORD

#: Bytes that are read of a file: more than TCP-MD5 takes, so that a longer key is seen to be one.
_BYTES: Final = 4096


class Passwords:
    """What the password files hold, or held when they could last be read."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self.lost: dict[str, str] = {}  # files that cannot be read, and why

    def read(self, file: str) -> tuple[str | None, str | None]:
        """The key, or why there is none although there should be one."""
        key, why = _read(Path(file))
        if key is not None:
            self._known[file] = key
            self.lost.pop(file, None)
            return key, None
        if file not in self._known:
            self.lost[file] = f"{why}; a session that stands goes on, none begins until it can be read"
            return None, self.lost[file]
        self.lost[file] = f"{why}; the key that was read before goes on"
        return self._known[file], None

    def keep(self, files: set[str]) -> None:
        """Forget the keys of all other files: no peer is configured with them."""
        self._known = {file: key for file, key in self._known.items() if file in files}
        self.lost = {file: why for file, why in self.lost.items() if file in files}


def _read(path: Path) -> tuple[str | None, str]:
    named = f"password_file {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block the loop
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no Path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None, f"{named} is no file"
            text = file.read(_BYTES).removesuffix(b"\n").decode("latin-1")
    except FileNotFoundError:
        return None, f"{named} is not there"
    except OSError as error:
        return None, f"{named} cannot be read ({error.strerror})"
    wrong = _wrong(text)
    return (text, "") if wrong is None else (None, f"{named} {wrong}")


def _wrong(text: str) -> str | None:
    if not text:
        return "is empty"
    if len(text) > MAX_PASSWORD:
        return f"holds more than {MAX_PASSWORD} bytes, the most that TCP-MD5 takes"
    return None if text.isascii() and text.isprintable() else "holds something else than printable ASCII characters"
