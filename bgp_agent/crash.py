"""An agent without memory ends at once.

A step that was broken off may have left half a decision behind, and an agent that goes on like that is worse than none:
the one that is started next finds sessions and routes as they are and derives everything anew.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

import structlog

log: Final = structlog.get_logger("bgp_agent")


def on_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: what no task owns is logged, and the lack of memory ends the process."""
    if not isinstance(context.get("exception"), MemoryError):
        loop.default_exception_handler(context)
        return
    try:
        log.error("no memory is left; this agent ends, sessions and routes stay: raise its limit, or start it again")
    finally:
        os._exit(1)
