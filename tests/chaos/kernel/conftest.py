"""The crossroads: built once for each module, and put back after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.kernel.crossroads import Crossroads, crossroads


@pytest.fixture(scope="module")
def running() -> Iterator[Crossroads]:
    with crossroads() as made:
        yield made


@pytest.fixture
def roads(running: Crossroads) -> Iterator[Crossroads]:
    """Converged; a test may leave it as it likes."""
    yield running
    running.restore()
