"""The Helm chart as tests use it: rendered by the real helm, and the rights that it gives to the agents.

``python -m lab.kube.chart`` prints the plain manifests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from lab.kubernetes import Binaries

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "deploy" / "chart" / "bgp-agent"
MANIFESTS: Final = ROOT / "deploy" / "manifests" / "bgp-agent.yaml"
VALUES: Final = MANIFESTS.with_name("values.yaml")
#: What helm is to think of the cluster: a helm without one of its own takes a version that is long gone.
VERSION: Final = "1.36.3"


def helm(binary: Path, *words: str | Path, stdin: str | None = None) -> str:
    """Run helm. Raises RuntimeError with what it says."""
    done = subprocess.run([binary, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"helm {words[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def render(binary: Path, values: Mapping[str, object] | None = None) -> str:
    """The chart with these values, as ``helm template`` prints it. Raises RuntimeError for what the schema refuses."""
    where = ("--namespace", "kube-system", "--kube-version", VERSION)
    given = yaml.safe_dump(dict(values or {}))
    return helm(binary, "template", "bgp-agent", CHART, *where, "--values", "-", stdin=given)


def manifests(binary: Path) -> str:
    """The plain manifests."""
    return render(binary, yaml.safe_load(VALUES.read_text()))


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a rendered chart."""
    return [each for each in yaml.safe_load_all(text) if each]


def rules() -> Sequence[Mapping[str, object]]:
    """The rights of an agent, as the plain manifests give them: helm is not needed."""
    role = next(each for each in objects(MANIFESTS.read_text()) if each["kind"] == "ClusterRole")
    found: Sequence[Mapping[str, object]] = role["rules"]
    return found


def main() -> None:
    """Print the plain manifests."""
    binaries = Binaries.find()
    if isinstance(binaries, str) or binaries.helm is None:
        raise SystemExit(f"no helm: {binaries if isinstance(binaries, str) else 'make kube builds one'}")
    sys.stdout.write(manifests(binaries.helm))


if __name__ == "__main__":
    main()
