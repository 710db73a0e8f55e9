"""Wheel and source distribution build, and the main job runs from an environment that has only the wheel.

The clean environment is a new venv with the wheel in it and nothing of this source tree. There is no network in the
tests, so its dependencies are those already installed here: one ``.pth`` line adds that folder to the path. A folder
added this way has its own ``.pth`` files ignored, the editable install of this tree among them, so ``bgp_agent`` can
come from the wheel alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from lab import proofs
from lab.netns import Network
from lab.topology import Lab, short_folder

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a clean environment with the wheel."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), *install], check=True, timeout=60
    )
    return folder / "bin"


def test_the_wheel_holds_the_package_and_what_exabgp_reads_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"bgp_agent", next(top for top in tops if top.endswith(".dist-info"))}
    ours = {path.name for path in (ROOT / "exabgp").iterdir() if path.name != "__pycache__"}
    assert ours <= {name.split("/")[2] for name in names if name.startswith("bgp_agent/_exabgp/")}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_source_distribution_holds_what_make_lab_and_make_test_need(dist: Path) -> None:
    (found,) = dist.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("Makefile", "LICENSE", "README.md", "lab/sandbox", "lab/__main__.py", "tests/conftest.py",
                   "requirements/dev.txt", "bgp_agent/agent.py", "pyproject.toml"):  # fmt: skip
        assert needed in names


def test_the_installed_command_comes_from_the_wheel(clean: Path, tmp_path: Path) -> None:
    code = "import bgp_agent; print(bgp_agent.__file__)"
    where = subprocess.run([clean / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert clean.parent in Path(where.stdout.strip()).parents
    said = subprocess.run([clean / "bgp-agent", "version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout.strip()


@pytest.mark.netns
def test_the_main_job_runs_from_the_wheel(clean: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    with Network() as network:
        lab = Lab(network, short_folder(network.tag), (str(clean / "bgp-agent"),))
        lab.start()
        lab.wait()
        assert [ping for ping in proofs.ping_all(lab) if ping.milliseconds is None] == []
        shutil.rmtree(lab.folder)
