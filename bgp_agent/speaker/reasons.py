"""Why a session ended, in words: ExaBGP gives codes, or less than that."""

from __future__ import annotations

import re
from typing import Final

#: RFC 4271 section 4.5, RFC 4486, RFC 8538, RFC 9384 and RFC 6608, as far as an operator meets them.
NOTIFICATIONS: Final = {
    (1, 0): "message header error",
    (2, 0): "OPEN refused",
    (2, 1): "unsupported version number",
    (2, 2): "bad peer AS",
    (2, 3): "bad BGP identifier",
    (2, 6): "unacceptable hold time",
    (3, 0): "UPDATE refused",
    (3, 1): "malformed attribute list",
    (3, 10): "invalid network field",
    (3, 11): "malformed AS_PATH",
    (4, 0): "hold timer expired",
    (5, 0): "finite state machine error",
    (6, 0): "cease",
    (6, 1): "maximum number of prefixes reached",
    (6, 2): "administrative shutdown",
    (6, 3): "peer de-configured",
    (6, 4): "administrative reset",
    (6, 5): "connection rejected",
    (6, 6): "other configuration change",
    (6, 7): "connection collision",
    (6, 8): "out of resources",
    (6, 9): "hard reset",
    (6, 10): "BFD down",
}
_CODES: Final = re.compile(r"notification (received|sent) \((\d{1,3}),(\d{1,3})\)", re.ASCII)
_PLAIN: Final = {
    "": "ExaBGP closed it without a reason; its log says why",
    "closing connection": "the connection was closed or could not be opened",
    "stop, message [removed]": "the peer was removed from ExaBGP",
    "stop, message [shutting down]": "ExaBGP is shutting down",
}


def notification_text(code: int, subcode: int) -> str:
    """The name of a NOTIFICATION with its numbers: ``administrative shutdown (6/2)``."""
    name = NOTIFICATIONS.get((code, subcode)) or NOTIFICATIONS.get((code, 0)) or "unknown"
    return f"{name} ({code}/{subcode})"


def down_text(reason: str) -> str:
    """ExaBGP's reason for a ``down`` as a sentence."""
    if (codes := _CODES.fullmatch(reason)) is not None:
        who = "the peer ended it" if codes[1] == "received" else "we ended it"
        return f"{who}: {notification_text(int(codes[2]), int(codes[3]))}"
    return _PLAIN.get(reason, reason)
