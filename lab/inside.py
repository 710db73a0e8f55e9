"""``make lab-shell NODE=node-a``: a shell, or a command, on one host of a lab that runs in another terminal.

The lab leaves no trace on the machine, so there is no file to find it by: it is found as what it is, a running
``python -m lab``, and entered through its namespaces. The file stands alone (standard library only).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

RUN: Final = "/run/lab"
#: What the Azure twin puts before the names of its virtual machines' namespaces.
TAG: Final = "lab-"
#: Where the Azure twin itself runs, and answers under 127.0.0.1:9180: the network of the lab's own process.
AZURE: Final = "azure"


def labs() -> list[int]:
    """Process ids of the labs that this user may enter, the newest first."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            mine = entry.stat().st_uid == os.geteuid() or not os.geteuid()
            started = int((entry / "stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, IndexError):
            continue
        if mine and words[1:3] == [b"-m", b"lab"]:
            found.append((started, int(entry.name)))
    return [pid for _started, pid in sorted(found, reverse=True)]


def enter(pid: int, host: str, network: str, command: list[str]) -> NoReturn:
    """Become ``command`` on ``host``, whose network is the file ``network``, of the lab whose process is ``pid``."""
    here = Path(__file__).resolve().parents[1]
    environment = {
        **os.environ,
        "PATH": f"{here / '.venv/bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "BGP_AGENT_CONFIG": f"{RUN}/{host}.yaml",
        "BLOCKS": f"{RUN}/{host}.blocks.yaml",
        "PS1": f"[{host}] \\w # ",
        "HISTFILE": "",
    }
    own = Path("/proc/self/ns/user").readlink() == Path(f"/proc/{pid}/ns/user").readlink()
    user = [] if own else ["--user", "--preserve-credentials"]
    lab = ["nsenter", f"--target={pid}", *user, "--mount", "--ipc", "--pid", f"--wd={here}"]
    shell = command or ["bash", "--norc", "-i"]
    os.execvpe("nsenter", [*lab, "--", "nsenter", f"--net={network}", "--", *shell], environment)  # noqa: S606


def main() -> None:
    """Read the command line: HOST [COMMAND…]."""
    if len(sys.argv) < 2:
        sys.exit("usage: make lab-shell NODE=node-a, or python3 lab/inside.py HOST [COMMAND…]")
    host, command = sys.argv[1], sys.argv[2:]
    running = labs()
    if not running:
        sys.exit("no lab is running here; start one with `make lab KEEP=1` in another terminal")
    hosts = Path(f"/proc/{running[0]}/root/run/netns")
    try:
        names = {entry.name.removeprefix(TAG): f"/run/netns/{entry.name}" for entry in hosts.iterdir()}
    except PermissionError:
        sys.exit("the lab belongs to root: run this with sudo")
    names[AZURE] = "/proc/1/ns/net"
    if host not in names:
        sys.exit(f"{host!r} is no host of the lab; there are {', '.join(sorted(names))}")
    enter(running[0], host, names[host], command)


if __name__ == "__main__":
    main()
