"""Is every branch of every core module covered by the test module of its own? `make coverage` asks.

A module that is covered only because another one's tests happen to pass through it is not tested: nobody would notice
when that stops. So each module is measured alone, with its own tests alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
CORE: Final = ROOT / "bgp_agent" / "core"
TESTS: Final = Path(__file__).parent
#: Values without a decision in them; their users' tests are theirs.
TESTED_BY: Final = {"reports": "values"}
#: What these must not fall below, in percent, until their last branches are tested; all others: every branch.
FLOOR: Final = {"fib": 97.0, "nexthop": 98.0, "probing": 98.0}
TIMEOUT: Final = 300.0  # seconds for one module


def measure(module: str) -> tuple[str, float, str]:
    """(the module, its coverage in percent, what is missing)."""
    test = TESTS / f"test_{TESTED_BY.get(module, module)}.py"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60", str(test),
                   f"--cov=bgp_agent.core.{module}", "--cov-branch", f"--cov-report=json:{report}"]  # fmt: skip
        environ = {**os.environ, "COVERAGE_FILE": str(Path(folder) / "data")}
        run = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        if run.returncode:
            return module, 0.0, f"{test.name} failed:\n{run.stdout[-2000:]}"
        found = json.loads(report.read_text())["files"][f"bgp_agent/core/{module}.py"]
    missing = [*found["missing_lines"], *(f"{a}->{b}" for a, b in found["missing_branches"])]
    return module, found["summary"]["percent_covered"], ", ".join(map(str, missing))


def main() -> int:
    """Measure, tell, and fail where something is missing."""
    modules = sorted(path.stem for path in CORE.glob("*.py") if path.stem != "__init__")
    wanted = sys.argv[1:] or modules
    lacking = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for module, percent, missing in pool.map(measure, wanted):
            lacking += percent < FLOOR.get(module, 100.0)
            sys.stdout.write(f"{module:12} {percent:5.1f} %  {missing}\n")
            sys.stdout.flush()
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
