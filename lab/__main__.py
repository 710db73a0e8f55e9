"""``make lab``; see lab/show.py. Runs inside ``lab/sandbox``."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import time
from types import FrameType
from typing import Final, NoReturn

from rich.console import Console

from lab.azure import AzureLab
from lab.netns import Network
from lab.show import play
from lab.topology import short_folder

PROGRAMS: Final = {"bird": "bird2", "birdc": "bird2", "ip": "iproute2", "nsenter": "util-linux", "ping": "iputils-ping"}

TRY: Final = """
[bold]Look inside[/], from another terminal in this folder:
  make lab-shell NODE=node-a        a shell; node-b, pod-c1, fabric, azure too
and there, on a node:
  bgp-agent status                  peers, blocks, routes, and why
  bgp-agent routes                  what was learned, and who really gets it
  bgp-agent explain 192.168.3.2     what happens to a packet for that pod
  bgp-agent probe 192.168.3.0/26    ask the network now
  ip route                          the kernel: our routes have protocol 179
  nano $BLOCKS                      the block file: add one, see the others learn
Ctrl-C here ends the lab; nothing stays behind."""
AGAIN: Final = "\n[bold]make lab KEEP=1[/] keeps it up, to look inside and to break things."


def _stopped(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Build, show, and stay if asked to. 0: everything held; 1: something did not; 130: interrupted."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay up when everything was shown")
    keep = parser.parse_args().keep
    if not os.environ.get("LAB_SANDBOX"):
        parser.error("the lab runs inside private namespaces: use `make lab`, or `lab/sandbox python -m lab`")
    if lacking := sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)}):
        parser.error(f"missing Debian packages: {' '.join(lacking)}; `make lab` installs them")
    signal.signal(signal.SIGTERM, _stopped)
    signal.signal(signal.SIGHUP, _stopped)
    console = Console(highlight=False)
    start = time.monotonic()
    try:
        with Network(tag="") as network, AzureLab(network, short_folder("")) as lab:
            good = play(lab, console)
            verdict = "[bold green]everything held[/]" if good else "[bold red]not everything held[/]"
            console.print(f"\n{verdict} after {time.monotonic() - start:.0f} s")
            console.print(TRY if keep else AGAIN)
            if keep:
                with contextlib.suppress(KeyboardInterrupt):  # the way to end it, not an accident
                    signal.pause()
    except KeyboardInterrupt:
        console.print("\ninterrupted; the lab is gone")
        return 130
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
