"""The core is pure: no module of it can wait, look at a clock, draw lots, or reach a file, a socket or the network."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Final

import pytest

import bgp_agent.core

CORE: Final = Path(bgp_agent.core.__file__).parent
MODULES: Final = sorted(CORE.glob("*.py"))
#: Standard library modules that compute and nothing else.
PURE: Final = frozenset({"__future__", "bisect", "collections", "dataclasses", "enum", "errno", "functools", "heapq",
                         "ipaddress", "itertools", "math", "operator", "struct", "typing", "weakref"})  # fmt: skip
#: module -> what it may use beyond that, and of it only these names.
ALLOWED: Final = {
    ("prefix", "socket"): {"AF_INET", "AF_INET6", "inet_pton", "inet_ntop"},
    ("probing", "datetime"): {"fromtimestamp"},  # a moment that was passed in, for people
    ("probing", "random"): {"Random"},  # the type of what the shell passes in
}
#: Modules of values alone.
TESTED_ELSEWHERE: Final = frozenset({"__init__", "reports"})
#: Built-ins that leave the process or run text.
IMPURE: Final = frozenset({"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"})


def imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or ".")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_core_module_imports_only_the_core_and_what_computes(path: Path) -> None:
    for name in imports(ast.parse(path.read_text())):
        top = name.partition(".")[0]
        if top == "bgp_agent":
            assert name == "bgp_agent.core" or name.startswith("bgp_agent.core."), f"{path.name} imports {name}"
        elif (path.stem, name) not in ALLOWED:
            assert name in sys.stdlib_module_names or top in sys.stdlib_module_names, f"{path.name} imports {name}"
            assert top in PURE, f"{path.name} imports {name}, which is not known to be pure"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_core_module_calls_nothing_that_leaves_the_process(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in IMPURE, f"{path.name}:{node.lineno} calls {node.func.id}()"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            allowed = ALLOWED.get((path.stem, node.value.id))
            assert allowed is None or node.attr in allowed, f"{path.name}:{node.lineno} uses socket.{node.attr}"
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef), f"{path.name} waits"


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem not in TESTED_ELSEWHERE], ids=lambda path: path.stem)
def test_every_core_module_has_a_test_module_of_its_own(path: Path) -> None:
    assert (Path(__file__).parent / f"test_{path.stem}.py").exists()
