"""Graceful shutdown (RFC 8326): peers hear that a block is about to go before it goes.

A block that is announced with the community GRACEFUL_SHUTDOWN still forwards; whoever knows another path moves to it
meanwhile. So a drain first announces every block once more with the community (one implicit replacement, RFC 4271
section 9.1.4), and withdraws when all peers have taken that and have had ``bgp.graceful_shutdown`` to converge; RFC
8326 section 4.2 names no figure. A peer that does not take it is not waited for longer than :data:`ANSWER`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

#: How long the acknowledgements of the community are waited for, in seconds.
ANSWER: Final = 5.0


class Drain(Enum):
    """Is the node drained."""

    OFF = "off"
    LEAVING = "leaving"
    DRAINED = "drained"


#: (state, event) -> next state. An event that is not in the table for a state changes nothing.
TRANSITIONS: Final[Mapping[tuple[Drain, str], Drain]] = {
    (Drain.OFF, "drain"): Drain.LEAVING,
    (Drain.OFF, "drain, nobody to tell"): Drain.DRAINED,
    (Drain.LEAVING, "notice is over"): Drain.DRAINED,
    (Drain.LEAVING, "undrain"): Drain.OFF,
    (Drain.DRAINED, "undrain"): Drain.OFF,
}


@dataclass(slots=True)
class Notice:
    """The peers' time to move away: ``grace`` seconds from when all were told. ``until``: over, told or not."""

    grace: float
    until: float
    told: bool = False

    @classmethod
    def give(cls, grace: float, now: float) -> Notice:
        """The community is on its way."""
        return cls(grace, now + ANSWER + grace)

    def heard(self, now: float) -> None:
        """All have acknowledged it."""
        if not self.told:
            self.told, self.until = True, min(self.until, now + self.grace)
