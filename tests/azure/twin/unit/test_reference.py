"""The reference of Azure's behaviours: every row is held by a test, or says that it is left out and why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "reference" / "azure-twin.md").read_text()
TESTS = {
    name.replace("_", " ")
    for path in (ROOT / "tests" / "azure" / "twin").rglob("test_*.py")
    for name in re.findall(r"def test_(\w+)\(", path.read_text())
}
#: The sections of the facts that the page must cover, one of its own each.
SECTIONS = ("1.1", "1.2", "1.3", "1.4", "1.5", "1.7", "1.8", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6")


def rows(section: str) -> list[list[str]]:
    text = re.search(rf"^## {re.escape(section)} .*?(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert text, section
    lines = [line for line in text[0].splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("section", SECTIONS)
def test_each_row_names_tests_that_there_are_or_is_left_out_with_the_reason(section: str) -> None:
    found = rows(section)
    assert found
    for row in found:
        named = [each.strip() for each in row[-1].split(";") if each.strip()]
        assert not set(named) - TESTS, row[0]
        assert named or "**left out**" in row[1], row[0]
