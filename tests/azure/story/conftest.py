"""The Azure lab, built anew for each test: three nodes that find Route Server, peers and route table by themselves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from lab.azure import AzureLab
from lab.netns import Network
from lab.topology import short_folder

Build = Callable[..., AzureLab]


@pytest.fixture
def build() -> Iterator[Build]:
    """Bring up labs; all of it ends with the test."""
    with ExitStack() as stack:

        def make(*, agents: bool = True, **options: object) -> AzureLab:
            network = Network()
            folder = short_folder(network.tag)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            port = 9280 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
            lab = AzureLab(network, folder, port=port, **options)  # type: ignore[arg-type]  # the test names them
            stack.callback(lab.close)
            stack.callback(network.close)
            lab.start(agents=agents)
            return lab

        yield make
