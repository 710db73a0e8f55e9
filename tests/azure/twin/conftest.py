"""A resource manager without HTTP, with a clock that tests move by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from azure_twin.config import parse

from tests.azure.twin.arm_client import BASE, Client


@pytest.fixture
def configured() -> Callable[..., Client]:
    """Make a client for a configuration: ``configured(timing="azure", extra=...)``."""

    def make(timing: str = "fast", extra: str = "", base: str = BASE) -> Client:
        return Client(parse(base.replace("{TIMING}", timing) + extra))

    return make


@pytest.fixture
def client(configured: Callable[..., Client]) -> Client:
    """A twin without delays."""
    return configured()


@pytest.fixture
def slow(configured: Callable[..., Client]) -> Client:
    """A twin with Azure's delays."""
    return configured(timing="azure")
