"""What the bench ran on, without names: cores, memory, kernel, versions."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return done.stdout + done.stderr


def _version(text: str) -> str:
    found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    return found[0] if found else "not installed"


def machine() -> dict[str, str]:
    """What -> how much."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    load = os.getloadavg()
    return {
        "cores": str(os.cpu_count()),
        "processor": model[1].strip() if model else platform.machine(),
        "memory": f"{int(memory[1]) / 1048576:.0f} GiB" if memory else "unknown",
        "kernel": ".".join(platform.release().split("-")[0].split(".")[:3]),
        "Python": platform.python_version(),
        "ExaBGP": metadata.version("exabgp"),
        "BIRD": _version(_said("bird", "--version")),
        "FRR": _version(_said("/usr/lib/frr/bgpd", "--version")),
        "load at the start": f"{load[0]:.1f}",
    }
