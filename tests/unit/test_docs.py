"""The docs say what the code does: generated parts are current, links lead somewhere, named targets exist."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def generator() -> ModuleType:
    """docs/generate.py; docs is no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in generator().pages().items() if path.read_text() != text]
    assert not stale, "run `make docs` and commit what it writes"


def test_every_transition_table_of_the_program_is_drawn_in_the_design() -> None:
    design = (ROOT / "docs/explanation/design.md").read_text()
    assert set(re.findall(r"<!-- machine (.+?) -->", design)) == set(generator().MACHINES)
    tables = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "bgp_agent").rglob("*.py")
        if re.search(r"^TRANSITIONS: Final", path.read_text(), re.MULTILINE)
    }
    assert tables == {module for module, _table in generator().MACHINES.values()}


def test_a_diagram_shows_every_arrow_once() -> None:
    drawn = generator().diagram({("a", "go"): "b", ("a", "run"): "b", ("b", "stop"): None})
    assert drawn.splitlines()[2:-1] == ["    a --> b: go, run", "    b --> [*]: stop"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^\s*)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
    assert named <= targets


def test_every_disaster_names_tests_that_exist() -> None:
    page = (ROOT / "docs/explanation/failure-modes.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| disaster")]
    for row in rows:
        assert row.count(" | ") == 3, f"disaster, promise, cost and test: {row}"
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test: {row}"
        for path, test in named:
            assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{test}"
