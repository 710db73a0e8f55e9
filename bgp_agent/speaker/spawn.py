"""Start a speaker that outlives whoever starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def spawner(state_dir: Path, *, user: str | None = None, stop_timeout: float = 150.0) -> Callable[[], None]:
    """A function that starts ``bgp-agent speaker`` detached; its log goes to ``<state_dir>/speaker.log``, bounded.

    Calling it again while one runs does no harm: the second finds the state directory locked and ends. The function
    raises :class:`OSError` when nothing could be started.
    """
    folder = state_dir.resolve()
    log = folder / "speaker.log"
    command = [*_program(), "--state-dir", str(folder), "--stop-timeout", f"{max(stop_timeout, 1):.0f}"]
    command += ["--log-file", str(log), *(("--user", user) if user is not None else ())]

    def spawn() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:  # for what is said outside of the log: a traceback, a word of the loader
            # The shell ends at once, so the speaker is nobody's child here and never a zombie.
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True, check=False,
            )  # fmt: skip

    return spawn


def _program() -> list[str]:
    script = Path(sys.executable).with_name("bgp-agent")
    return [str(script), "speaker"] if script.exists() else [sys.executable, "-m", "bgp_agent.speaker"]
