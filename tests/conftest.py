"""What every test may count on: namespaces where they can be had, and a reason in the summary where they cannot."""

from __future__ import annotations

import os
import shutil
from typing import Final

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

PACKAGES: Final = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ping": "iputils-ping",
    "bird": "bird2",
    "birdc": "bird2",
}
#: How many times as many examples as usual every Hypothesis test makes; `make fuzz` sets it.
FUZZ: Final = int(os.environ.get("FUZZ") or 1)


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


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Let every property test run FUZZ times as long: those with settings of their own, and state machines too."""
    if FUZZ == 1:
        return
    for item in session.items:
        machine = getattr(getattr(item, "cls", None), "settings", None)
        if isinstance(machine, settings):
            item.cls.settings = _longer(machine)  # type: ignore[attr-defined]  # a TestCase made of a state machine
        elif item.get_closest_marker("hypothesis"):
            test = item.obj  # type: ignore[attr-defined]  # a function, or a method of a class
            test = getattr(test, "__func__", test)
            test._hypothesis_internal_use_settings = _longer(test._hypothesis_internal_use_settings)


def _longer(usual: settings | None) -> settings:
    usual = usual or settings.default or settings()
    return settings(usual, max_examples=usual.max_examples * FUZZ, deadline=None)


#: Tests that build whole labs share one worker: two labs at once on two cores promise nothing.
ONE_WORKER: Final = ("tests/lab/", "tests/chaos/", "tests/packaging/")


class ByPart(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A worker takes a whole file, or all of the labs (``--dist loadgroup`` has no effect with pytest 9.2)."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "labs" if file.startswith(ONE_WORKER) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByPart:
    return ByPart(config, log)
