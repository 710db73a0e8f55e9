"""Lines of ExaBGP's log that say nothing an event does not say better.

A peer that is away is tried every second or two, and ExaBGP writes two lines each time; a peer that offers more
families than are configured gets a banner at each session; a planned end is announced in three steps. The peer's state
tells all of this once, with its reason: these lines are for the level ``debug``, and none of them explains an end.
"""

from __future__ import annotations

import re
from typing import Final

_CHATTER: Final = re.compile(
    r"closing connection$"
    r"|connection to \S+ closed$"
    r"|lost TCP session with peer$"
    r"|\s-{20,}$"
    r"|the connection can not carry the following family/families$"
    r"|- exabgp is not configured for \S+$"  # " - peer is not" stays: a configured family is missing
    r"|therefore no routes of this kind can be announced on the connection$"
    r"|SIG(?:TERM|ALRM) received$"
    r"|(?:scheduling|performing) shutdown$"
)


def is_chatter(line: str) -> bool:
    """Is this line of ExaBGP's log told by an event too."""
    return _CHATTER.search(line) is not None
