from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.netns import Network
from tests.unit.probe.fabric import Fabric


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    with Network() as network:
        yield Fabric(network)
