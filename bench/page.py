"""docs/explanation/performance.md: what stands between its markers is made from the results, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.figures import Axis, around, chart
from bench.results import Results, percentile

PAGE: Final = Path(__file__).resolve().parent.parent / "docs/explanation/performance.md"
FIGURES: Final = PAGE.parent / "performance"
#: How the names of the hand-over's measures begin.
HAND_OVER: Final = "hand-over"
STACKS: Final = ("bgp-agent", "BIRD", "FRR", "ExaBGP alone")

#: measure, size -> (words, scale, unit, target in words)
_ROWS: Final = (
    ("learn", 100_000, "learned to kernel, 100,000 prefixes", 1.0, "s", "faster than BIRD and FRR"),
    ("learn", 10_000, "learned to kernel, 10,000 prefixes", 1.0, "s", "faster than BIRD and FRR"),
    ("learn one", 0, "learned to kernel, one prefix", 1e3, "ms", "p50 2, p99 5"),
    ("announce one", 0, "block event to UPDATE", 1e3, "ms", "p50 4, p99 10"),
    ("write", 10_000, "10,000 kernel routes written", 1e3, "ms", "50"),
    ("announce", 10_000, "announce 10,000 prefixes", 1.0, "s", "1.2"),
    ("back", 0, "router away, back: it waits", 1.0, "s", "5"),
    ("back, knocking", 0, "router away, back: it connects", 1.0, "s", "1"),
    ("flushed", 0, "a deleted route is back", 1e3, "ms", "200"),
    ("idle", 0, "idle, two routers: CPU a minute", 1.0, "s", "0.5"),
    ("memory", 1_000, "resident, 1,000 routes: all processes", 1.0, "MiB", ""),
    ("memory agent", 1_000, "resident: the agent", 1.0, "MiB", "65"),
    ("memory speaker", 1_000, "resident: the speaker", 1.0, "MiB", "24"),
    ("memory exabgp", 1_000, "resident: one ExaBGP and its helper", 1.0, "MiB", "35"),
)


def _cell(results: Results, measure: str, stack: str, size: int, scale: float) -> str:
    if measure.endswith(" one") or measure == "flushed":
        values = results.values(measure, stack, size)
        if not values:
            return "-"
        low, high = (percentile(values, share) * scale for share in (0.5, 0.99))
        return f"{low:.2f} / {high:.2f}"
    spread = results.spread(measure, stack, size)
    return spread.text(scale) if spread else "-"


def table(results: Results) -> str:
    """The table of design's numbers."""
    lines = [f"| what | unit | target | {' | '.join(STACKS)} |", f"|---|---|---|{'---|' * len(STACKS)}"]
    for measure, size, words, scale, unit, target in _ROWS:
        cells = [_cell(results, measure, stack, size, scale) for stack in STACKS]
        several = measure.endswith(" one") or measure == "flushed"
        shown = f"{unit}, p50 / p99" if several else unit
        lines.append(f"| {words} | {shown} | {target} | {' | '.join(cells)} |")
        if measure == "write" and (single := results.spread(measure, "pyroute2", size)):
            lines.append(f"| the same by pyroute2, one at a time | ms | | {single.text(scale)} | - | - | - |")
    sent, lost = results.values("packets sent", "bgp-agent"), results.values("packets lost", "bgp-agent")
    if sent:
        lines.append(f"| lost over SIGKILL and restart | packets | 0 | {lost[0]:,.0f} of {sent[0]:,.0f} | - | - | - |")
    return "\n".join(lines)


def ratios(results: Results) -> str:
    """How we stand to the others, in the same run."""
    lines = ["| our time : theirs | BIRD | FRR | ExaBGP alone |", "|---|---|---|---|"]
    for measure, size, words, *_ in _ROWS[:6]:
        cells = []
        for stack in STACKS[1:]:
            ours, theirs = results.spread(measure, "bgp-agent", size), results.spread(measure, stack, size)
            cells.append(f"{ours.median / theirs.median:.2f}" if ours and theirs else "-")
        if set(cells) != {"-"}:
            lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spent(results: Results) -> str:
    """CPU time of each process while 100,000 prefixes are learned."""
    measures = sorted({row.measure for row in results.rows if row.measure.startswith("cpu ")})
    lines = ["| process | CPU, s | µs a prefix |", "|---|---|---|"]
    for stack in STACKS:
        for measure in measures:
            found = results.spread(measure, stack, 100_000)
            if found:
                role = measure.removeprefix("cpu ")
                lines.append(f"| {stack}: {role} | {found.text()} | {found.median * 10:.1f} |")
    return "\n".join(lines)


def hand_over(results: Results) -> str:
    """What each disaster cost beside its bound; the rows have the disaster where others have the program."""
    lines = [
        "| what happens | packets lost | longest silence, s | bound, s | whole story, s |",
        "|---|---|---|---|---|",
    ]
    for what in results.stacks(f"{HAND_OVER} sent"):
        sent, lost, silence, bound, took = (
            results.values(f"{HAND_OVER} {each}", what)[0] for each in ("sent", "lost", "silence", "bound", "took")
        )
        lines.append(f"| {what} | {lost:,.0f} of {sent:,.0f} | {silence:.1f} | {bound:g} | {took:.0f} |")
    return "\n".join(lines)


def facts(machine: Mapping[str, str]) -> str:
    """The machine in one sentence."""
    return "; ".join(f"{what}: {value}" for what, value in machine.items()) + "."


def distribution(results: Results, measure: str, title: str) -> str | None:
    """How many of the changes were there after so long."""
    found = {s: sorted(results.values(measure, s)) for s in STACKS if results.values(measure, s)}
    if not found:
        return None
    lines = {
        stack: [(value * 1e3, (number + 1) / len(values) * 100) for number, value in enumerate(values)]
        for stack, values in found.items()
    }
    x = around([a for line in lines.values() for a, _ in line], "milliseconds")
    return chart(title, x, Axis("% of the changes", 0, 100), lines)


def growth(results: Results, measure: str, title: str, label: str) -> str | None:
    """Over the number of prefixes."""
    lines = {}
    for stack in STACKS:
        spreads = [(size, results.spread(measure, stack, size)) for size in results.sizes(measure)]
        points = [(float(size), spread.median) for size, spread in spreads if spread]
        if points:
            lines[stack] = points
    if not lines:
        return None
    x = around([a for line in lines.values() for a, _ in line], "prefixes")
    return chart(title, x, around([b for line in lines.values() for _, b in line], label), lines, dots=True)


def write(results: Results, machine: Mapping[str, str]) -> None:
    """The page's generated parts, and its figures."""
    FIGURES.mkdir(exist_ok=True)
    drawn = {
        "learn-one.svg": distribution(
            results, "learn one", "One prefix: from the router's UPDATE to the kernel's route"
        ),
        "announce-one.svg": distribution(
            results, "announce one", "One block: from the event to the UPDATE at the router"
        ),
        "growth-time.svg": growth(results, "learn", "From the first byte sent to the last route installed", "seconds"),
        "growth-memory.svg": growth(results, "memory", "Resident memory of all processes, afterwards", "MiB"),
    }
    for name, svg in drawn.items():
        if svg is not None:
            (FIGURES / name).write_text(svg)
    text = PAGE.read_text()
    parts = {
        "table": table(results), "ratios": ratios(results), "spent": spent(results), "hand-over": hand_over(results),
        "machine": facts(machine),
    }  # fmt: skip
    for name, made in parts.items():
        text = _between(text, name, made)
    PAGE.write_text(text)


def _between(text: str, name: str, made: str) -> str:
    """The text with a part made anew. Raises ValueError when it has no such part."""
    head, mark, rest = text.partition(f"<!-- bench {name} -->\n")
    _, end, tail = rest.partition("<!-- end -->")
    if not (mark and end):
        raise ValueError(f"{PAGE.name} has no part between <!-- bench {name} --> and <!-- end -->")
    return f"{head}{mark}{made}\n{end}{tail}"
