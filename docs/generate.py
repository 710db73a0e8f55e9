"""Write the parts of the docs that are made from the code; ``make docs``. A test compares them with what is made here.

State machines: between ``<!-- machine NAME -->`` and ``<!-- end -->`` in explanation/design.md stands the diagram of a
transition table, (state, event) -> next state, drawn as Mermaid. A next state of None is the end.
"""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from bgp_agent.cli import reference as commands
from bgp_agent.config import reference
from bgp_agent.web import reference as metrics
from lab.neighbours import NEIGHBOURS
from lab.neighbours import page as interop

DOCS: Final = Path(__file__).resolve().parent

#: The tables that are drawn: the marker's name -> module and table.
MACHINES: Final = {
    "own block": ("bgp_agent.core.blocks", "TRANSITIONS"),
    "drain": ("bgp_agent.core.notice", "TRANSITIONS"),
    "peer": ("bgp_agent.core.peers", "TRANSITIONS"),
    "what the agent knows of ExaBGP": ("bgp_agent.speaker.session", "TRANSITIONS"),
    "an ExaBGP process": ("bgp_agent.speaker.supervision", "TRANSITIONS"),
    "hand-over": ("bgp_agent.core.handover", "TRANSITIONS"),
}


def _word(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def diagram(table: Mapping[tuple[object, object], object]) -> str:
    """A table as a Mermaid state diagram; events that lead from one state to another share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (state, event), after in table.items():
        target = "[*]" if after is None else _word(after).replace(" ", "_")
        arrows[_word(state).replace(" ", "_"), target].append(_word(event))
    lines = [f"    {state} --> {target}: {', '.join(events)}" for (state, target), events in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def machine(name: str) -> str:
    """The diagram of the machine that a marker names; raises KeyError for an unknown one."""
    module, table = MACHINES[name]
    return diagram(getattr(importlib.import_module(module), table))


def with_machines(text: str) -> str:
    """A page with every marked diagram made anew."""
    return re.sub(
        r"(<!-- machine (.+?) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{machine(found[2])}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def pages() -> dict[Path, str]:
    """Every generated file and what it shall hold."""
    design = DOCS / "explanation/design.md"
    return {
        design: with_machines(design.read_text()),
        DOCS / "reference/config.schema.json": reference.schema_text(),
        DOCS / "reference/configuration.md": reference.page(),
        DOCS / "reference/cli.md": commands.page(),
        DOCS / "reference/metrics.md": metrics.page(),
        DOCS / "reference/interop.md": interop.page(NEIGHBOURS),
    }


def main() -> None:
    """Write what differs, and say so."""
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(DOCS.parent)}")  # noqa: T201


if __name__ == "__main__":
    main()
