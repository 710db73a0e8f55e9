"""Files that hold secrets: written whole or not at all, readable by their owner alone."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def write_private(path: Path, data: bytes, owner: pwd.struct_passwd | None = None) -> None:
    """Replace ``path`` atomically, mode 0600, for ``owner`` (None: whoever runs). Raises :class:`OSError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            if owner is not None and owner.pw_uid != os.geteuid():
                os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
