from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bgp_agent.speaker import leftovers

SLEEP = [sys.executable, "-c", "import time; time.sleep(100)"]


def test_only_exabgps_of_this_folder_are_ended(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ended = subprocess.Popen([*SLEEP, "/x/exabgp", str(ours / "10.0.0.4.conf")])
    others = [
        subprocess.Popen([*SLEEP, "/x/exabgp", str(theirs / "10.0.0.4.conf")]),
        subprocess.Popen([*SLEEP, "vi", str(ours / "10.0.0.4.conf")]),
        subprocess.Popen([*SLEEP, "/x/exabgp", str(ours / "deeper" / "10.0.0.4.conf")]),
    ]
    try:
        assert leftovers.end(ours) == [ended.pid]
        assert ended.wait(5) == -9
        assert all(other.poll() is None for other in others)
        assert leftovers.end(ours) == []
    finally:
        for other in others:
            other.kill()
            other.wait()
