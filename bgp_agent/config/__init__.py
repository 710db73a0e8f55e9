"""The config: one YAML file, environment variables above it, nothing else.

:func:`load` reads, :class:`Config` is what the other parts see, :func:`changes` compares two of them for a reload.
"""

from __future__ import annotations

from bgp_agent.config.discovered import Found, with_found
from bgp_agent.config.loading import Loaded, load, parse, source_address, with_address
from bgp_agent.config.model import Config, Peer
from bgp_agent.config.problems import ConfigError, UnreadableError
from bgp_agent.config.reload import Changes, changes
from bgp_agent.config.text import defaults, effective, init_text

__all__ = [
    "Changes",
    "Config",
    "ConfigError",
    "Found",
    "Loaded",
    "Peer",
    "UnreadableError",
    "changes",
    "defaults",
    "effective",
    "init_text",
    "load",
    "parse",
    "source_address",
    "with_address",
    "with_found",
]
