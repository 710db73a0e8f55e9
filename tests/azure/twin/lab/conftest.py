"""A twin as a process, with three VMs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.azure.twin.lab.cloud import NODES, Cloud


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., Cloud]]:
    """Bring up twins on configurations; all end with the test."""
    made: list[Cloud] = []

    def make(config: str = NODES) -> Cloud:
        made.append(Cloud(tmp_path, config))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def cloud(build: Callable[..., Cloud]) -> Cloud:
    """Three VMs in two subnets, a Route Server that knows them all."""
    return build()
