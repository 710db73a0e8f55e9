"""The set-up that the folders' names allow: two of them are also packages on PyPI."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def dependencies() -> set[str]:
    """The names in pyproject's runtime dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[^A-Za-z0-9-]", line, maxsplit=1)[0].lower() for line in project["dependencies"]}


@pytest.mark.parametrize("folder", ["exabgp", "azure", "tests"])
def test_no_init_file_hides_a_package_from_pypi(folder: str) -> None:
    assert [str(path) for path in (ROOT / folder).rglob("__init__.py") if "azure_twin" not in path.parts] == []


def test_exabgp_is_the_package_from_pypi_and_not_our_folder() -> None:
    import exabgp  # noqa: PLC0415 - what an import finds here is the question

    assert exabgp.__file__ is not None
    assert ROOT / "exabgp" not in Path(exabgp.__file__).parents


def test_every_runtime_dependency_has_its_reason_and_nothing_else_has_one() -> None:
    text = (ROOT / "docs/explanation/dependencies.md").read_text()
    runtime = text.split("\n## ")[1]
    assert runtime.startswith("Runtime")
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", runtime, re.MULTILINE)) == dependencies()


@pytest.mark.parametrize("name", ["runtime.txt", "dev.txt"])
def test_requirements_are_pinned_by_hash_and_name_no_index(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert not re.search(r"^\s*(-i|--index-url|--extra-index-url|--find-links)|https?://", text, re.MULTILINE)
    pinned = re.findall(r"^([a-z0-9_.-]+(?:\[[a-z,]+\])?)==\S+.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    entries = [part for part in re.split(r"(?m)^(?=[a-z0-9])", text) if re.match(r"[a-z0-9]", part)]
    assert pinned
    assert [entry.split()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_the_pinned_files_hold_every_runtime_dependency() -> None:
    for name in ("runtime.txt", "dev.txt"):
        pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / name).read_text(), re.MULTILINE))
        assert dependencies() <= pinned


def test_the_core_is_pure() -> None:
    impure = r"^\s*(?:import|from)\s+(asyncio|os|time|socket|random|pathlib|threading|subprocess|aiohttp|structlog)\b"
    allowed = {
        ("prefix.py", "socket"),  # inet_pton and inet_ntop: text to bytes and back, no I/O
        ("probing.py", "random"),  # the type of the source of chance that its caller passes in
    }
    found = {
        (path.name, name)
        for path in (ROOT / "bgp_agent/core").glob("*.py")
        for name in re.findall(impure, path.read_text(), re.MULTILINE)
    }
    assert found <= allowed


def test_no_file_names_the_machine_it_was_written_on() -> None:
    kinds = (".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".service")
    folders = ("bgp_agent", "lab", "docs", "exabgp", "requirements", "tests")
    needle = "/" + "work/"
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    assert [str(path) for path in files if needle in path.read_text(errors="replace")] == []
