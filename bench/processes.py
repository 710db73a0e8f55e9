"""What processes cost: CPU time to the microsecond, and resident memory, as the kernel counts them."""

from __future__ import annotations

from pathlib import Path


def cpu(pid: int) -> float:
    """Seconds of CPU that all threads of a process have had (``/proc/PID/task/*/schedstat``, in nanoseconds)."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def resident(pid: int) -> float:
    """Resident memory in MiB (``VmRSS``)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def command(pid: int) -> str:
    """The command line, words joined by blanks."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
