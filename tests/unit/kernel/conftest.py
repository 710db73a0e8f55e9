from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.netns import Namespace, Network
from tests.unit.kernel.rig import Watcher, make_node


@pytest.fixture
def node() -> Iterator[Namespace]:
    with Network() as network:
        yield make_node(network)


@pytest.fixture
def watcher(node: Namespace) -> Iterator[Watcher]:
    made = Watcher(node)
    yield made
    made.close()
