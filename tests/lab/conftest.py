"""The lab of `make lab`, built once for each module; one worker runs them all, as two labs would share two cores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from lab.netns import Network
from lab.topology import Lab, short_folder


@pytest.fixture(scope="module")
def running_lab() -> Iterator[Lab]:
    with Network() as network:
        folder = short_folder(network.tag)
        lab = Lab(network, folder)
        lab.start()
        lab.wait()
        yield lab
    shutil.rmtree(folder)


@pytest.fixture
def lab(running_lab: Lab) -> Iterator[Lab]:
    """The converged lab; a test leaves it as it found it, and the next one waits until that shows."""
    running_lab.wait()
    yield running_lab
    for node in running_lab.nodes.values():
        node.own(node.plan.blocks)
