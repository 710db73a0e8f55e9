"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How bad it is. ``fail``: the agent cannot do its work; ``warn``: it can, but somebody should look."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. ``seen``: what was found, in words; ``remedy``: a command or a line of config, empty when fine."""

    check: str
    verdict: Verdict
    seen: str
    remedy: str = ""
