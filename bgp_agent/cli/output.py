"""Text for people: tables with colour on a terminal, plain aligned text in a pipe.

What the agent tells may come from peers and files; control characters are shown, not obeyed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

TONES: Final = {
    "established": "green", "announced": "green", "installed": "green", "synced": "green", "delivered": "green",
    "ready": "green", "ok": "green",
    "connecting": "yellow", "pending": "yellow", "shadowed": "yellow", "stale": "yellow", "waiting": "yellow",
    "withheld": "yellow", "refused": "yellow", "fallback": "yellow", "maintenance": "yellow", "warn": "yellow",
    "down": "red", "misdelivered": "red", "not ready": "red", "fail": "red",
}  # fmt: skip
"""The colour of a state; the word itself is always there."""
LONG: Final = 20
"""Characters that a long column needs to be read in."""
_CODES: Final = {"green": "32", "yellow": "33", "red": "31", "bold": "1"}


def clean(text: str) -> str:
    """Text without control characters: an escape sequence in a reason must not reach the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def colourful() -> bool:
    """Is there a person with a terminal that shows colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def toned(text: str, tone: str) -> str:
    """A word in a colour, where colours are shown."""
    return f"\x1b[{_CODES[tone]}m{text}\x1b[0m" if colourful() else text


def state(word: str) -> str:
    """A state in its colour."""
    tone = TONES.get(word)
    return toned(clean(word), tone) if tone else clean(word)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()) -> None:
    """Print a table; the last column is the one that may be long.

    On a terminal it wraps inside its column. Where that would leave too little room for it, the columns of ``spare``
    are left out, the first one first; and where that is not enough it stands in lines of its own. Nothing is cut off.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [heads, *cells]) for n in range(len(heads))]
    if sys.stdout.isatty():
        _rich(heads, cells, widths, spare)
        return
    for row in [heads, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich(heads: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], spare: Sequence[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only for a person at a terminal
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    columns, last = list(range(len(heads) - 1)), len(heads) - 1
    wanted = min(widths[last], LONG)
    for head in spare:
        if _room(console.width, widths, columns) < wanted:
            columns.remove(heads.index(head))
    below = _room(console.width, widths, columns) < wanted
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for n in columns:
        shown.add_column(heads[n], no_wrap=True, min_width=widths[n])
    if not below:
        shown.add_column(heads[last], overflow="fold")
        for row in rows:
            shown.add_row(*(Text(row[n], style=TONES.get(row[n], "")) for n in columns), Text(row[last]))
        console.print(shown)
        return
    console.print(Text("  ".join(heads[n].ljust(widths[n]) for n in columns), style="bold"), soft_wrap=True)
    for row in rows:
        states = [Text(row[n].ljust(widths[n]), style=TONES.get(row[n], "")) for n in columns]
        console.print(Text("  ").join(states), soft_wrap=True)
        console.print(Padding(Text(row[last], overflow="fold"), (0, 0, 0, 4)))


def _room(width: int, widths: Sequence[int], columns: Sequence[int]) -> int:
    """Characters that are left for the last column."""
    return width - sum(widths[n] + 2 for n in columns)


def json_text(body: bytes) -> None:
    """Print JSON as it came, indented."""
    import msgspec  # noqa: PLC0415

    print(msgspec.json.format(body, indent=2).decode())


def json_value(value: object) -> None:
    """Print a value as JSON."""
    import json  # noqa: PLC0415

    print(json.dumps(value, indent=2, ensure_ascii=False))
