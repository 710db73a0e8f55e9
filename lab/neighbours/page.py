"""The table of docs/reference/interop.md, from what the suite itself goes by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lab.neighbours.plan import Feature, Neighbour

HEAD: Final = """# Interoperability

What is tried with the routers that people run, in the releases that Debian 12 has. Each daemon stands in a network
namespace of its own, at the other end of a wire from a node with the whole program: agent, speaker, ExaBGP, kernel. One
suite, `tests/interop/test_neighbours.py`, runs against all of them; who judges is the daemon's own command line and the
node's kernel. This page is made from the same data as the suite (`make docs`).

"""
TAIL: Final = """
Graceful restart is tried as each of them does it: the ExaBGPs are killed while their host stands still, the daemon must
notice, keep the routes as stale, and hold the same ones after the return. A peer's prefix limit is answered by a Cease
6/1, which `/status` shows as the reason; the session is back when the limit allows it.

Peers that mean harm have a suite of their own, `tests/interop/test_hostile.py`:
[failure modes](../explanation/failure-modes.md).
"""


def page(neighbours: Sequence[type[Neighbour]]) -> str:
    """The whole page: a row a feature, a column a daemon, a numbered note for all that is not simply so."""
    notes: list[str] = []
    rows = [
        "| | " + " | ".join(f"{each.name} {each.release}" for each in neighbours) + " |",
        "|---|" + "---|" * len(neighbours),
    ]
    for feature in Feature:
        cells = (_cell(each, feature, notes) for each in neighbours)
        rows.append(f"| {feature.value} | {' | '.join(cells)} |")
    numbered = [f"{number}. {note}." for number, note in enumerate(notes, 1)]
    return HEAD + "\n".join([*rows, "", *numbered, ""]) + TAIL


def _cell(neighbour: type[Neighbour], feature: Feature, notes: list[str]) -> str:
    reason = neighbour.cannot.get(feature) or neighbour.notes.get(feature)
    word = "no" if feature in neighbour.cannot else "yes"
    if reason is None:
        return word
    notes.append(f"{neighbour.name}: {reason}")
    return f"{word} ({len(notes)})"
