"""A Docker daemon of one's own, and the images of the compose lab: for tests, and for machines without a registry.

``python -m lab.compose.engine DATA`` builds the images into the data directory. The daemon changes nothing of the
machine's network: no packet filter rules, no forwarding, no bridge but those that a compose file asks for. It runs with
Debian's packages ``docker.io`` and ``docker-compose``; ``lab/compose/build`` and ``lab/sandbox`` see to it that it ends
with whoever started it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Self

from lab.netns import wait_for

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = "debian:bookworm-slim"
IMAGES: Final = {"bgp-agent:lab": ROOT, "azure-twin:lab": ROOT / "azure" / "twin"}
#: What a build may see of this machine and no layer keeps: the certificates of who serves the packages, pip's mirror.
SECRETS: Final = {"ca": Path("/etc/ssl/certs/ca-certificates.crt"), "pip": Path("/etc/pip.conf")}
#: What of a distribution nobody reads in a container, as in Debian's own slim images.
UNREAD: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/log")
CGROUP: Final = "/bgp-agent-compose"
CGROUPS: Final = Path("/sys/fs/cgroup")


class Engine:
    """The daemon, from ``with`` to its end. ``data``: images and containers, kept; ``run``: sockets, short-lived."""

    def __init__(self, data: Path, run: Path) -> None:
        self.data = data
        self.run = run
        self.log = run / "dockerd.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{run}/docker.sock",
            "DOCKER_CONFIG": str(run / "client"),
            "DOCKER_BUILDKIT": "1",
            "PATH": f"/usr/bin:/usr/sbin:{os.environ['PATH']}",
        }

    def __enter__(self) -> Self:
        remove_cgroups()  # of one that was killed
        self.run.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        (self.run / "daemon.json").write_text("{}\n")
        with self.log.open("wb") as out:
            self._daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", "dockerd",
                 "--data-root", self.data, "--exec-root", self.run / "exec", "--pidfile", self.run / "pid",
                 "--host", f"unix://{self.run}/docker.sock", "--config-file", self.run / "daemon.json",
                 "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
                 "--cgroup-parent", CGROUP],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment, start_new_session=True,
            )  # fmt: skip
        wait_for("dockerd answers", self._answers, 30, 0.1)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            try:
                self._daemon.wait(20)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
        remove_cgroups()

    def _answers(self) -> bool:
        if self._daemon is not None and self._daemon.poll() is not None:
            raise RuntimeError(f"dockerd ended:\n{self.log.read_text()[-3000:]}")
        return not subprocess.run(
            ["docker", "version"], env=self.environment, capture_output=True, check=False
        ).returncode

    def docker(self, *words: str | Path, timeout: float = 60.0) -> str:
        """Run ``docker WORDS``; raises with what it said."""
        return self.call("docker", *words, timeout=timeout)

    def call(self, *words: str | Path, timeout: float = 60.0) -> str:
        """Run a command that finds the daemon; raises with what it said."""
        done = subprocess.run(
            list(map(str, words)), cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"`{' '.join(map(str, words))}` exited {done.returncode}: {done.stderr[-3000:]}")
        return done.stdout

    def build(self) -> None:
        """Have the images, from the base up; what did not change is not made again."""
        if not self.docker("images", "-q", BASE):
            self._import(self.data.parent / "debian.tar")
        secrets = [f"--secret=id={name},src={path}" for name, path in SECRETS.items() if path.exists()]
        for image, context in IMAGES.items():
            command = ["docker", "build", "-q", "--network=host", *secrets, "--build-arg", f"BASE={BASE}", "-t", image]
            subprocess.run([*command, context], env=self.environment, stdout=subprocess.DEVNULL, check=True)

    def _import(self, archive: Path) -> None:
        if not archive.exists():
            bootstrap(archive)
        self.docker("import", archive, BASE, timeout=120)


def remove_cgroups() -> None:
    """The control groups of containers outlive them when nobody takes them away."""
    for pattern in (f"*{CGROUP}/**/", f"{CGROUP[1:]}/**/"):  # cgroups(7): version 1 and 2
        for folder in sorted(CGROUPS.glob(pattern), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()


def bootstrap(archive: Path) -> None:
    """A minimal Debian as a tar, from the mirror that debootstrap knows."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        root = Path(folder, "root")
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], stdout=subprocess.DEVNULL, check=True)
        for each in UNREAD:
            shutil.rmtree(root / each)
            (root / each).mkdir()
        new = archive.with_suffix(".new")
        subprocess.run(["tar", "-C", root, "-cf", new, "."], check=True)
        new.rename(archive)


def main() -> None:
    """Build; the command line names the data directory. Sockets and the base's archive stand beside it."""
    data = Path(sys.argv[1])
    shutil.rmtree(data.parent / "run", ignore_errors=True)
    with Engine(data, data.parent / "run") as engine:
        engine.build()
        for image in IMAGES:
            print(image, engine.docker("image", "inspect", "--format", "{{.Size}}", image).strip(), "bytes")


if __name__ == "__main__":
    main()
