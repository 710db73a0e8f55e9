"""Build what a real Kubernetes API needs, once for a machine: ``make kube`` runs this.

kube-apiserver and kubectl come from the modules pinned in ``server/go.mod``, helm and kwok (thousands of fake nodes)
from their own. Each lands in a folder of its version below the cache, by one rename when it is whole, so what is there
is complete; whoever comes second at the same time waits and finds it done. etcd is Debian's.

Six minutes on two cores the first time, for want of a Debian package; afterwards it looks and ends.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVER: Final = Path(__file__).parent / "server"
INSTALL: Final = Path(__file__).parents[1] / "install"
GO: Final = (1, 26)
#: The names that the ecosystem uses (sigs.k8s.io/controller-runtime/pkg/envtest).
ASSETS: Final = "KUBEBUILDER_ASSETS"
ASSET: Final = "TEST_ASSET_{}"
REMEDY: Final = (
    f"`make kube` builds it with Go {GO[0]}.{GO[1]} or newer (https://go.dev/dl), or {ASSETS} names a folder with "
    "kube-apiserver, etcd and kubectl"
)


class BuildError(Exception):
    """It cannot be built here; the message says why and what helps."""


def cache() -> Path:
    """The folder that built programs stay in, between checkouts."""
    if named := os.environ.get("KUBE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bgp-agent-kube"


def _pinned() -> str:
    found = re.search(r"^(?:require|\t) ?k8s\.io/kubernetes (v\S+)", (SERVER / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f"{SERVER / 'go.mod'} does not require k8s.io/kubernetes")
    return found[1]


@dataclass(frozen=True, slots=True)
class Source:
    """Where programs come from. ``arguments``: of ``go``, run in ``folder`` with GOBIN set to where they shall land."""

    name: str
    version: str
    programs: tuple[str, ...]
    arguments: tuple[str, ...]
    flags: str
    folder: Path = SERVER

    @property
    def home(self) -> Path:
        """Its folder in the cache."""
        return cache() / f"{self.name}-{self.version}"


def _sources() -> tuple[Source, ...]:
    version = _pinned()
    major, minor, _patch = version.removeprefix("v").split(".")
    stamp = "k8s.io/component-base/version"  # without it the server says 0.0, and some clients refuse that
    return (
        Source(
            "kubernetes", version, ("kube-apiserver", "kubectl"),
            ("-mod=readonly", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl"),
            f"-X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}",
        ),
        Source("helm", "v3.21.4", ("helm",), ("helm.sh/helm/v3/cmd/helm@v3.21.4",),
               "-X helm.sh/helm/v3/internal/version.version=v3.21.4"),
        Source("kwok", "v0.7.0", ("kwok",), ("sigs.k8s.io/kwok/cmd/kwok@v0.7.0",),
               "-X sigs.k8s.io/kwok/pkg/consts.Version=v0.7.0"),
    )  # fmt: skip


SOURCES: Final = _sources()


def program(name: str) -> Path | None:
    """A program by its name: what the environment names, else what was built, else (etcd) what Debian installed."""
    asset = os.environ.get(ASSET.format(name.upper().replace("-", "_")))
    folder = os.environ.get(ASSETS)
    built = [source.home / name for source in SOURCES if name in source.programs]
    candidates = [Path(asset)] if asset else [*([Path(folder) / name] if folder else []), *built]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    installed = shutil.which(name) if name == "etcd" and not asset else None
    return Path(installed) if installed else None


def why_no_go() -> str | None:
    """Why Go cannot build it here; None when it can."""
    if not shutil.which("go"):
        return "no `go` on the PATH"
    # In the module's folder: a Go that may fetch the toolchain that a module asks for does so there.
    asked = subprocess.run(["go", "env", "GOVERSION"], cwd=SERVER, capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", asked.stdout)
    if found is None:
        return f"`go env` failed: {asked.stderr.strip().splitlines()[-1:] or asked.stdout}"
    if (int(found[1]), int(found[2])) < GO:
        return f"{asked.stdout.strip()} is too old"
    return None


@contextmanager
def _alone() -> Iterator[None]:
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(source: Source) -> None:
    print(f"building {' and '.join(source.programs)} {source.version}", flush=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{source.name}-") as new:
        done = subprocess.run(
            ["nice", "go", "install", "-p", "2", "-trimpath", "-ldflags", f"-s -w {source.flags}", *source.arguments],
            cwd=source.folder, check=False,
            env={**os.environ, "GOBIN": new, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""},
        )  # fmt: skip
        lacking = [name for name in source.programs if not (Path(new) / name).exists()]
        if done.returncode or lacking:
            raise BuildError(f"go could not build {' and '.join(source.programs)}; what it said stands above")
        Path(new).chmod(0o755)
        shutil.rmtree(source.home, ignore_errors=True)
        Path(new).rename(source.home)
        Path(new).mkdir()  # for the context to take away


def missing(found: Callable[[str], Path | None] = program) -> list[Source]:
    """What is still to be built."""
    return [source for source in SOURCES if not all(map(found, source.programs))]


def build() -> None:
    """Build what is missing and install etcd if there is none. Raises :class:`BuildError`."""
    if lacking := missing():
        if reason := why_no_go():
            names = " and ".join(name for source in lacking for name in source.programs)
            raise BuildError(f"{names} cannot be built: {reason}. {REMEDY}")
        with _alone():
            for source in missing():
                _build(source)
    if program("etcd") is None:
        subprocess.run([INSTALL, "etcd-server"], check=True)


def main() -> None:
    """Build; on a reason not to, say it in one line and fail."""
    try:
        build()
    except BuildError as error:
        sys.exit(str(error))
    for name in (*(each for source in SOURCES for each in source.programs), "etcd"):
        print(f"{name}: {program(name)}")


if __name__ == "__main__":
    main()
