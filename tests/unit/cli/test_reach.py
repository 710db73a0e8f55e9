"""speaker.user is tried, not guessed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from bgp_agent.cli import reach

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a moment")


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    """An interpreter that everybody can run; ours may stand in somebody's home."""
    found = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin")
    if found is None:
        pytest.skip("no python3 that belongs to the system")
    monkeypatch.setattr(sys, "executable", found)
    monkeypatch.setattr(reach, "_LOOK", reach._LOOK.replace("import exabgp.application", "pass"))
    return found


def test_a_folder_that_the_user_may_not_enter_is_named(python: str, tmp_path: Path) -> None:
    launcher = Path(python)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o711)
    assert f"nobody cannot reach {closed}, " in str(reach.why_not("nobody", closed / "state", launcher))
    assert reach.why_not("nobody", Path("/run/bgp-agent-of-nobody"), launcher) is None


def test_a_launcher_that_the_user_may_not_read_is_named(python: str, tmp_path: Path) -> None:
    assert python
    launcher = tmp_path / "exabgp"
    launcher.touch(mode=0o600)
    assert f"nobody cannot reach {launcher}, " in str(reach.why_not("nobody", Path("/run"), launcher))


def test_an_interpreter_that_the_user_may_not_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python3"
    program.touch(mode=0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    assert f"nobody cannot reach {program}, " in str(reach.why_not("nobody", Path("/run"), Path("/bin/sh")))
