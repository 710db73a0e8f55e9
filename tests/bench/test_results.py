"""What the bench says of its numbers: percentiles, spreads, tables and figures."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import handover, page
from bench.figures import around, chart
from bench.results import Results, percentile


def test_a_percentile_is_one_of_the_values_and_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


@pytest.mark.parametrize(
    ("values", "text"),
    [((0.0123,), "0.0123"), ((1.0, 2.0, 4.0), "2.00 (1.00-4.00)"), ((32000.0,), "32,000"), ((0.0,), "0")],
)
def test_a_spread_is_shown_as_the_median_and_what_lies_around_it(values: tuple[float, ...], text: str) -> None:
    results = Results()
    for value in values:
        results.add("learn", "BIRD", value, "s")
    spread = results.spread("learn", "BIRD")
    assert spread
    assert spread.text() == text


def test_results_are_the_same_after_they_were_saved(tmp_path: Path) -> None:
    results = Results()
    results.add("learn", "bgp-agent", 1.25, "s", size=1000, run=2)
    results.save(tmp_path / "results.csv")
    assert Results.load(tmp_path / "results.csv").rows == results.rows


def test_what_was_not_measured_is_a_dash_and_no_number() -> None:
    results = Results()
    results.add("learn", "bgp-agent", 2.0, "s", size=100_000)
    row = next(line for line in page.table(results).splitlines() if "100,000 prefixes" in line)
    assert row.split(" | ")[-4:] == ["2.00", "-", "-", "- |"]


def test_the_page_is_made_from_the_saved_results() -> None:
    results = Results.load(Path(page.PAGE).parents[2] / "bench/results/results.csv")
    text = page.PAGE.read_text()
    for part in (page.table(results), page.ratios(results), page.spent(results), page.hand_over(results)):
        assert part in text, "run `python -m bench --page`"


def test_a_disaster_is_shown_beside_its_bound_and_one_part_can_be_measured_anew() -> None:
    results = Results()
    results.add("learn", "BIRD", 1.0, "s")
    for name, value in (("sent", 3000), ("lost", 1200), ("silence", 1.25), ("bound", 2.0), ("took", 8.4)):
        results.add(f"hand-over {name}", "both die", value, "")
    assert page.hand_over(results).splitlines()[-1] == "| both die | 1,200 of 3,000 | 1.2 | 2 | 8 |"
    assert [row.measure for row in results.without("hand-over").rows] == ["learn"]


def test_every_disaster_of_the_hand_over_is_on_the_page() -> None:
    results = Results.load(Path(page.PAGE).parents[2] / "bench/results/results.csv")
    assert results.stacks("hand-over sent") == [row.what for row in handover.ROWS]
    for row in handover.ROWS:
        assert results.values("hand-over bound", row.what) == [row.bound]
        assert results.values("hand-over silence", row.what)[0] <= row.bound


def test_a_figure_is_well_formed_and_has_every_line() -> None:
    lines = {"BIRD": [(1000.0, 0.01), (100_000.0, 1.0)], "a < b": [(1000.0, 0.1), (100_000.0, 10.0)]}
    drawn = chart("Time", around([1000, 100_000], "prefixes"), around([0.01, 10], "s"), lines, dots=True)
    root = ET.fromstring(drawn)  # noqa: S314 - made a line above
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 4
