"""The bounds of ``/routes``, which the command line shares."""

from __future__ import annotations

from typing import Final

LIMIT: Final = 1_000
"""Routes of a page when nothing else is asked for."""
LIMIT_MOST: Final = 10_000
"""Routes of a page at most."""
