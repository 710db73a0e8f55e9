"""Docs and suite say the same."""

from __future__ import annotations

from pathlib import Path

from lab.neighbours import NEIGHBOURS
from lab.neighbours.page import page
from lab.neighbours.plan import Feature
from tests.interop import test_neighbours
from tests.interop.neighbour_rig import PROVED

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/interop.md"


def test_the_page_is_what_the_suite_goes_by() -> None:
    assert PAGE.read_text() == page(NEIGHBOURS), "run `make docs` and commit what it writes"


def test_every_row_has_its_test() -> None:
    assert set(PROVED) == set(Feature)
    assert all(hasattr(test_neighbours, name) for name in PROVED.values())
