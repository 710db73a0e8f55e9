"""``kernel.table`` other than main: whatever main holds, but for its default route, is asked first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.netns import wait_for
from tests.chaos.conftest import answers
from tests.chaos.kernel.crossroads import LEFT, LEFT6, OURS, SIDES, Crossroads, host_in

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

FIRST, FIRST6 = SIDES["left"].router
FAR, FAR6 = SIDES["right"].router
TABLE = 100


def again(roads: Crossroads, **kernel: object) -> None:
    """Another life of the agent, with another configuration."""
    roads.stop_agent()
    roads.configure(kernel=kernel)
    roads.node.start_agent()
    wait_for("the agent answers", lambda: answers(roads.node), 20)


@pytest.fixture
def own_table(roads: Crossroads) -> Iterator[None]:
    again(roads, table=TABLE)
    yield
    again(roads)
    for version in "46":
        roads.inside.ip(f"-{version} route flush table {TABLE}")
        for preference in (32764, 32765):
            roads.inside.ip(f"-{version} rule del pref {preference}")


@pytest.mark.usefixtures("own_table")
def test_a_route_that_a_wider_one_in_main_keeps_from_forwarding_is_shadowed_and_not_installed(
    roads: Crossroads,
) -> None:
    wide = {LEFT: ("192.168.0.0/16", FIRST, FAR), LEFT6: ("fd77::/16", FIRST6, FAR6)}
    for prefix, (cover, ours, theirs) in wide.items():
        shown = f"-{6 if ':' in prefix else 4} route show {prefix} table {TABLE} {OURS}"
        wait_for(shown, lambda words=shown: roads.inside.ip(words, check=False), 20)  # type: ignore[misc]
        wait_for("it has left main", lambda p=prefix: p not in roads.routes())  # type: ignore[misc]
        forwards = f"route get {host_in(prefix)}"
        assert f" via {ours} " in roads.inside.ip(forwards)
        wait_for("it is installed", lambda p=prefix: roads.status(p)[0] == "installed")  # type: ignore[misc]
        roads.inside.ip(f"route add {cover} via {theirs} proto static metric 9000")
        try:
            assert f" via {theirs} " in roads.inside.ip(forwards)
            wait_for("it is shadowed", lambda p=prefix: roads.status(p)[0] == "shadowed")  # type: ignore[misc]
            assert f"protocol static (4) holds {cover} in table main" in roads.status(prefix)[1]
        finally:
            roads.inside.ip(f"route del {cover}")
        assert f" via {ours} " in roads.inside.ip(forwards)
        wait_for("it is installed again", lambda p=prefix: roads.status(p)[0] == "installed")  # type: ignore[misc]
