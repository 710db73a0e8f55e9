"""What the agent does when an exception reaches the loop."""

from __future__ import annotations

import asyncio
import os

import pytest

from bgp_agent.crash import on_fault


class Ended(BaseException):
    """In place of the end of the process."""


def end(code: int) -> None:
    raise Ended(code)


async def test_without_memory_the_process_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended, match="1"):
        on_fault(asyncio.get_running_loop(), {"message": "a step failed", "exception": MemoryError()})


async def test_any_other_fault_is_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_fault)
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert "ZeroDivisionError" in caplog.text
