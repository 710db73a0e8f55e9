"""Where Azure's real clients are; without the environment that `make test-azure-cli` makes, their tests are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def clients() -> Path:
    """Where the clients are installed."""
    folder = os.environ.get("AZURE_CLI_ENV")
    if not folder:
        pytest.skip("AZURE_CLI_ENV is not set: `make test-azure-cli` makes the environment and runs these")
    return Path(folder)
