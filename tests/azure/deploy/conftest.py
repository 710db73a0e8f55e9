"""What the roles' test shares with the agent's: a twin in the test's own event loop."""

from __future__ import annotations

from tests.azure.agent.conftest import opened

__all__ = ["opened"]
