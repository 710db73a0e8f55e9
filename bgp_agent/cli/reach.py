"""Can ``speaker.user`` run ExaBGP: found out by being that user for a moment, in a process of its own.

Only ``check`` asks: an agent in a container of its own need not know the speaker's users.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Final

TIMEOUT: Final = 20.0
"""Seconds for importing ExaBGP on a busy machine."""
#: Prints the first thing that is out of reach.
_LOOK: Final = """
import os, sys
for path in sys.argv[1:]:
    if not os.access(path, os.R_OK if os.path.isfile(path) else os.X_OK):
        sys.exit(path)
try:
    import exabgp.application
except OSError as error:
    sys.exit(error.filename)
"""


def why_not(user: str, state_dir: Path, launcher: Path) -> str | None:
    """Why ``user`` could not run ExaBGP, with the remedy; None when it could, or when only root can tell.

    ``launcher``: what ExaBGP is started by.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return f"there is no user {user!r} on this machine: make it, or leave the key out"
    if os.geteuid() != 0 or account.pw_uid == 0:
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _LOOK, str(launcher), str(_standing(state_dir))],
            user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd="/", stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except OSError:
        return _out_of_reach(user, sys.executable)
    except subprocess.TimeoutExpired:
        return None
    if not done.returncode:
        return None
    told = done.stderr.strip().splitlines()
    return _out_of_reach(user, told[-1] if told else sys.executable)


def _out_of_reach(user: str, what: str) -> str:
    return (
        f"{user} cannot reach {what}, which ExaBGP needs: install bgp-agent where every user can read it (not under "
        "/root), open the folder, or name another user"
    )


def _standing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: the speaker makes the rest."""
    return next((one for one in (folder, *folder.parents) if one.is_dir()), Path("/"))
