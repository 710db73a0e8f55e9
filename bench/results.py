"""What was measured: rows of a CSV, and the few figures that are made of them."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Result:
    """One measured value. ``measure``: what was measured; ``size``: prefixes, 0 where that says nothing."""

    measure: str
    stack: str
    size: int
    run: int
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs in short."""

    median: float
    least: float
    most: float
    runs: int

    def text(self, scale: float = 1.0, digits: int = 3) -> str:
        """``1.23 (1.20-1.31)``, or the one value there is."""
        shown = _number(self.median * scale, digits)
        if self.runs == 1:
            return shown
        return f"{shown} ({_number(self.least * scale, digits)}-{_number(self.most * scale, digits)})"


def _number(value: float, digits: int) -> str:
    """So many significant digits, thousands with commas, never an exponent."""
    if value == 0:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    if whole >= digits:
        return f"{round(value, digits - whole):,.0f}"
    if whole:
        return f"{value:.{digits - whole}f}"
    return f"{value:.{digits}g}"


def percentile(values: Iterable[float], share: float) -> float:
    """The value that ``share`` of all are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


class Results:
    """Every value of a run, in the order in which they came. A run that failed has no value: nothing is made up."""

    def __init__(self, rows: Iterable[Result] = ()) -> None:
        self.rows: Final = list(rows)

    def add(self, measure: str, stack: str, value: float, unit: str, *, size: int = 0, run: int = 0) -> None:
        """One more value."""
        self.rows.append(Result(measure, stack, size, run, value, unit))

    def without(self, part: str) -> Self:
        """All but the measures whose name begins so."""
        return type(self)(row for row in self.rows if not row.measure.startswith(part))

    def values(self, measure: str, stack: str, size: int = 0) -> list[float]:
        """All values of one measure."""
        return [row.value for row in self.rows if (row.measure, row.stack, row.size) == (measure, stack, size)]

    def sizes(self, measure: str) -> list[int]:
        """The sizes at which it was measured."""
        return sorted({row.size for row in self.rows if row.measure == measure})

    def stacks(self, measure: str) -> list[str]:
        """Who was measured, in order of appearance."""
        return list(dict.fromkeys(row.stack for row in self.rows if row.measure == measure))

    def spread(self, measure: str, stack: str, size: int = 0) -> Spread | None:
        """Median and range, None when it was not measured."""
        values = self.values(measure, stack, size)
        if not values:
            return None
        return Spread(statistics.median(values), min(values), max(values), len(values))

    def save(self, path: Path) -> None:
        """As CSV."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(field.name for field in fields(Result))
            writer.writerows((*astuple(row)[:4], f"{row.value:.6g}", row.unit) for row in self.rows)

    @classmethod
    def load(cls, path: Path) -> Self:
        """What :meth:`save` wrote."""
        with path.open(newline="") as file:
            return cls(
                Result(r["measure"], r["stack"], int(r["size"]), int(r["run"]), float(r["value"]), r["unit"])
                for r in csv.DictReader(file)
            )
