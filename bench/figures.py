"""Line charts as SVG, written by hand: two axes, a few lines, a legend. No library draws it, so none is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 30, 56, 50
COLOURS: Final[Mapping[str, str]] = {
    "bgp-agent": "#1f6feb", "BIRD": "#2da44e", "FRR": "#bf3989", "ExaBGP alone": "#9a6700",
}  # fmt: skip
Line = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """``log``: decades. ``unit`` stands behind the label."""

    label: str
    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where on the axis a value is, 0 to 1; what is outside is at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Decades, or five steps."""
        if not self.log:
            return [self.low + (self.high - self.low) * step / 5 for step in range(6)]
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = (1, 2, 5) if last - first <= 2 else (1,)
        ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        return [tick for tick in ticks if self.low <= tick <= self.high * 1.0001]


def around(values: Sequence[float], label: str) -> Axis:
    """A logarithmic axis that holds all values."""
    low, high = min(values), max(values)
    return Axis(label, 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)), log=True)


def chart(title: str, x: Axis, y: Axis, lines: Mapping[str, Line], *, dots: bool = False) -> str:
    """The SVG text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<style>text { font: 12px sans-serif; fill: #1f2328 } .title { font-weight: bold }</style>",
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" class="title">{escape(title)}</text>',
        *_grid(x, y),
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS.get(name, "#57606a")
        points = [(_across(x, a), _up(y, b)) for a, b in line]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if dots:
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        at = _LEFT + number * 130
        parts.append(f'<rect x="{at}" y="{_TOP - 18}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{at + 20}" y="{_TOP - 11}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _text(tick: float) -> str:
    return f"{tick:,.0f}" if tick >= 1 else f"{tick:g}"


def _across(axis: Axis, value: float) -> float:
    return _LEFT + axis.share(value) * (WIDTH - _LEFT - _RIGHT)


def _up(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.share(value) * (HEIGHT - _TOP - _BOTTOM)


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in x.ticks():
        at = _across(x, tick)
        parts.append(f'<path d="M{at:.1f} {_TOP}V{HEIGHT - _BOTTOM}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_text(tick)}</text>')
    for tick in y.ticks():
        at = _up(y, tick)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_text(tick)}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x.label)}</text>')
    parts.append(
        f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y.label)}</text>'
    )
    return parts
