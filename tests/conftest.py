"""What every test may count on: namespaces where they can be had, and a reason in the summary where they cannot."""

from __future__ import annotations

import os
import shutil
from typing import Final

import pytest

PACKAGES: Final = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ping": "iputils-ping",
    "bird": "bird2",
    "birdc": "bird2",
}


def why_no_namespaces() -> str | None:
    """Why tests that make namespaces cannot run here, with the remedy; None when they can."""
    if os.geteuid() or not os.environ.get("LAB_SANDBOX"):
        return "not in a sandbox: `make test` makes one (root, a user namespace or sudo), or run `lab/sandbox pytest …`"
    if lacking := sorted({package for program, package in PACKAGES.items() if not shutil.which(program)}):
        return f"Debian packages are missing: {' '.join(lacking)}; `make tools` installs them"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_no_namespaces()
    if reason:
        for item in items:
            if item.get_closest_marker("netns"):
                item.add_marker(pytest.mark.skip(reason=reason))
