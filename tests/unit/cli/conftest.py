"""The command line as a person runs it: a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bgp_agent.web.server import serving
from tests.unit.web.memory import Memory


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def bgp_agent(tmp_path: Path) -> Command:
    """Run ``bgp-agent WORDS`` in an empty directory, with no settings of the caller's."""

    def run(*words: str | Path, env: dict[str, str] | None = None, stdin: str = "") -> Result:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BGP_AGENT_")}
        argv = [sys.executable, "-m", "bgp_agent", *map(str, words)]
        folder = tmp_path / "here"
        folder.mkdir(exist_ok=True)
        path = str(Path(__file__).parents[3])
        done = subprocess.run(
            argv, env=clean | {"PYTHONPATH": path} | (env or {}), cwd=folder, input=stdin,
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def memory() -> Memory:
    return Memory()


class Served:
    """A reporter behind a real port, and the command line asked against it."""

    def __init__(self, memory: Memory, url: str, command: Command) -> None:
        self.memory = memory
        self.url = url
        self._command = command

    async def __call__(self, *words: str, env: dict[str, str] | None = None) -> Result:
        return await asyncio.to_thread(self._command, *words, "--url", self.url, env=env)


@pytest.fixture
async def served(memory: Memory, bgp_agent: Command) -> AsyncIterator[Served]:
    async with serving(memory, "127.0.0.1:0") as (port, _):
        yield Served(memory, f"http://127.0.0.1:{port}", bgp_agent)
