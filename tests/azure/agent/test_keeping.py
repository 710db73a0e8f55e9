"""Route tables kept as wanted, through the twin: what is written, in which order, and what trouble costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from azure_twin.core.messages import Request, Response

from bgp_agent.cloud import keeping, resources
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.keeping import RouteTables
from bgp_agent.core.cloudtable import Node, name_of
from bgp_agent.core.prefix import Prefix, parse_address, parse_prefix, prefix_text
from tests.azure.agent.conftest import CONFIG, NETWORK, TABLE, Azure, Opened

A, B, C = (parse_prefix(f"192.168.{n}.0/26") for n in (1, 2, 3))
HERE, THERE = parse_address("10.42.1.4"), parse_address("10.42.1.5")
NODE = Node("a", HERE)
OTHER = ResourceId(f"{NETWORK}/routeTables/rt2")
NONE: frozenset[Prefix] = frozenset()


@dataclass
class Seen:
    """The requests that reached the twin, in order: (method, last word of the path, If-Match)."""

    all: list[tuple[str, str, str]] = field(default_factory=list)

    def of(self, *methods: str) -> list[str]:
        return [f"{method} {name}" for method, name, _ in self.all if method in methods]


def watch(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen, serve = Seen(), azure.twin.serve

    def serving(request: Request, *, control: bool) -> Response:
        if "/routetables/" in request.path.lower():
            name = request.path.rpartition("/")[2]
            seen.all.append((request.method, name, request.headers.get("if-match", "")))
        return serve(request, control=control)

    monkeypatch.setattr(azure.twin, "serve", serving)
    return seen


@asynccontextmanager
async def kept(azure: Azure, *tables: ResourceId) -> AsyncIterator[RouteTables]:
    made = RouteTables(azure.arm, lambda: None, lambda: None)
    made.use(tables or (TABLE,), NODE)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(what: str, condition: Callable[[], object], timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.01)


async def holds(azure: Azure, table: ResourceId = TABLE) -> dict[str, bytes]:
    return {each.name: each.next_hops[0] for each in (await resources.read_table(azure.arm, table)).routes}


def done(made: RouteTables) -> bool:
    """Is nothing left to do, as far as the tables are known."""
    return made.view() is not None and made.pending() == 0.0 and made._wanted is not None


async def test_additions_are_written_one_by_one_and_before_removals(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    await resources.put_route(azure.arm, TABLE, name_of(C), C, HERE)
    seen = watch(azure, monkeypatch)
    async with kept(azure) as made:
        made.want(frozenset({A, B}))
        await until("the table is right", lambda: done(made))
    assert seen.of("PUT", "DELETE") == [f"PUT {name_of(A)}", f"PUT {name_of(B)}", f"DELETE {name_of(C)}"]
    assert await holds(azure) == {name_of(A): HERE, name_of(B): HERE}


async def test_nothing_is_taken_out_before_anybody_said_what_is_wanted(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    await resources.put_route(azure.arm, TABLE, name_of(A), A, HERE)
    await resources.put_route(azure.arm, TABLE, name_of(B), B, HERE)
    seen = watch(azure, monkeypatch)
    async with kept(azure) as made:
        await until("the table is read", lambda: made.view() is not None)
        made.look()
        await until("it is read again", lambda: made.reads > 1)
        assert seen.of("PUT", "DELETE") == []
        made.want(NONE, frozenset({A}))
        await until("what may go is gone", lambda: done(made))
    assert seen.of("PUT", "DELETE") == [f"DELETE {name_of(B)}"]


async def test_what_is_not_known_to_be_meant_is_not_an_empty_list_of_tables(azure: Azure) -> None:
    made = RouteTables(azure.arm, lambda: None, lambda: None)
    assert made.view() is None
    made.use((), NODE)
    assert made.view() == ()


async def test_four_hundred_right_routes_cost_one_read_and_no_write(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes = [parse_prefix(f"192.168.{n // 4}.{n % 4 * 64}/26") for n in range(400)]
    routes = [
        {
            "name": name_of(each),
            "properties": {
                "addressPrefix": prefix_text(each), "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.42.1.4",
            },
        }
        for each in prefixes
    ]  # fmt: skip
    await azure.arm.put(TABLE, {"location": "westeurope", "properties": {"routes": routes}})
    seen = watch(azure, monkeypatch)
    async with kept(azure) as made:
        made.want(frozenset(prefixes))
        await until("the table is read", lambda: done(made))
        began = time.perf_counter()
        for _ in range(200):
            made.view()
            made.pending()
        assert time.perf_counter() - began < 1.0, "a look without news must not hold up the loop"
    assert [method for method, _, _ in seen.all] == ["GET"]


async def test_a_route_that_leads_elsewhere_is_replaced_with_the_etag_and_read_again_when_it_changed(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    await resources.put_route(azure.arm, TABLE, name_of(A), A, THERE)
    async with kept(azure) as made:
        await until("the table is read", lambda: made.view() is not None)
        await resources.put_route(azure.arm, TABLE, "strangers", C, THERE)  # the ETag is another one now
        seen = watch(azure, monkeypatch)
        made.want(frozenset({A}))
        await until("the table is right", lambda: done(made))
    assert [method for method, _, _ in seen.all] == ["PUT", "GET", "PUT"]
    assert all(etag for method, _, etag in seen.all if method == "PUT")
    assert await holds(azure) == {name_of(A): HERE, "strangers": THERE}


async def test_a_route_that_became_the_new_owners_meanwhile_is_not_deleted(azure: Azure) -> None:
    await resources.put_route(azure.arm, TABLE, name_of(A), A, HERE)
    async with kept(azure) as made:
        await until("the table is read", lambda: made.view() is not None)
        await resources.put_route(azure.arm, TABLE, name_of(A), A, THERE)
        made.want(NONE)
        await until("nothing is left to do", lambda: done(made))
    assert await holds(azure) == {name_of(A): THERE}


async def test_an_etag_that_is_never_right_is_tried_ever_more_seldom(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    await resources.put_route(azure.arm, TABLE, name_of(A), A, THERE)
    monkeypatch.setattr(keeping, "CONTENDED", 0.1)
    azure.fault(kind="answer", status=412, times=200, method="PUT")
    seen = watch(azure, monkeypatch)
    async with kept(azure) as made:
        monkeypatch.setattr(made._random, "uniform", lambda _, most: most)
        made.want(frozenset({A}))
        await until("it waits for longer than a second", lambda: made.tables and max(
            each.hold_until - asyncio.get_running_loop().time() for each in made.tables.values()) > 1.0)  # fmt: skip
    assert len(seen.of("PUT")) <= 6


async def test_a_delete_that_azure_cannot_do_is_tried_ever_more_seldom_and_said(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    await resources.put_route(azure.arm, TABLE, name_of(A), A, HERE)
    monkeypatch.setattr(keeping, "RETRY", (0.05, 30.0))
    azure.fault(kind="answer", status=503, times=200, method="DELETE", retry_after=5)
    seen = watch(azure, monkeypatch)
    async with kept(azure) as made:
        made.want(NONE)
        await until("it failed several times", lambda: made.tables and min(
            each.failures for each in made.tables.values()) >= 4)  # fmt: skip
        assert "503" in (made.problem() or "")
        azure.twin.faults.clear()
        await until("it is done", lambda: done(made))
        assert made.problem() is None
    assert len(seen.of("DELETE")) <= 7


async def test_a_locked_table_is_waited_for_as_long_as_azure_says(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.fault(kind="lock", times=1, method="PUT", retry_after=1)
    seen = watch(azure, monkeypatch)
    began = time.monotonic()
    async with kept(azure) as made:
        made.want(frozenset({A}))
        await until("it is said", made.problem)
        assert "another" in (made.problem() or "").lower()
        await until("the table is right", lambda: done(made))
        assert made.problem() is None
    assert time.monotonic() - began >= 1.0
    assert seen.of("PUT") == [f"PUT {name_of(A)}"] * 2


async def test_a_quota_that_is_used_up_is_left_alone_by_everybody(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.fault(kind="answer", status=429, times=1, method="PUT", retry_after=1)
    seen = watch(azure, monkeypatch)
    async with kept(azure, TABLE, OTHER) as made:
        made.want(frozenset({A}))
        await until("both tables are right", lambda: done(made))
    assert len(seen.of("PUT")) <= 4


async def test_a_route_object_that_failed_is_written_again(azure: Azure) -> None:
    azure.fault(kind="fail", times=1, method="PUT", path="*/routes/*")
    async with kept(azure) as made:
        made.want(frozenset({A}))
        await until("the table is right", lambda: done(made))
    (route,) = (await resources.read_table(azure.arm, TABLE)).routes
    assert route.state == "Succeeded"


async def test_a_strangers_route_for_our_prefix_is_never_touched_and_its_end_is_noticed(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "REFUSED", 0.3)
    monkeypatch.setattr(keeping, "REREAD", 0.3)
    async with kept(azure) as made:
        await until("the table is read", lambda: made.view() is not None)
        await resources.put_route(azure.arm, TABLE, "theirs", A, THERE)
        seen = watch(azure, monkeypatch)
        made.want(frozenset({A, B}))
        await until("the other block is there", lambda: made.writes)
        assert await holds(azure) == {"theirs": THERE, name_of(B): HERE}
        assert len(seen.of("PUT")) <= 3
        await resources.delete_route(azure.arm, TABLE, "theirs")
        await until("the table is right", lambda: done(made) and made.writes == 2)
    assert await holds(azure) == {name_of(A): HERE, name_of(B): HERE}


async def test_a_full_table_refuses_one_route_and_takes_the_others_words(opened: Opened) -> None:
    azure = await opened(config=CONFIG.replace("imds_per_second: 0", "imds_per_second: 0, routes_per_table: 1"))
    async with kept(azure) as made:
        made.want(frozenset({A, B}))
        await until("one is refused", made.refused)
        assert "RouteTableRoutesLimitReached" in made.refused()[B]
        made.limit = 1
        assert made.view() is not None
        (table,) = made.view() or ()
        assert table.limit == 1
    assert await holds(azure) == {name_of(A): HERE}


async def test_a_table_that_is_deleted_takes_its_routes_out_of_everybodys_sight_and_is_filled_when_it_is_back(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETRY", (0.05, 0.2))
    monkeypatch.setattr(keeping, "REREAD", 0.2)
    azure = await opened(config=CONFIG.replace("10.42.2.0/24, route_table: rt2", "10.42.2.0/24"))
    async with kept(azure, OTHER) as made:
        made.want(frozenset({A}))
        await until("the table is right", lambda: done(made))
        await azure.arm.delete(OTHER)
        await until("nobody relies on what it held", lambda: made.view() is None)
        assert "route table rt2 is gone" in (made.problem() or "")
        await azure.arm.put(OTHER, {"location": "westeurope", "properties": {}})
        await until("it is filled again", lambda: done(made))
    assert await holds(azure, OTHER) == {name_of(A): HERE}


async def test_a_table_that_is_not_meant_any_more_is_left_clean(azure: Azure) -> None:
    async with kept(azure, TABLE, OTHER) as made:
        made.want(frozenset({A}))
        await until("both are right", lambda: done(made))
        made.use((TABLE,), NODE)
        assert [each.id for each in made.view() or ()] == [TABLE]
        made.want(frozenset({A, B}))
        await until("the other block is written", lambda: done(made))
        assert await holds(azure, OTHER) == {name_of(A): HERE}, "what it has, stays while it is wanted"
        made.want(NONE)
        await until("it is forgotten", lambda: len(made.tables) == 1)
    assert (await holds(azure), await holds(azure, OTHER)) == ({}, {})


async def test_one_table_that_hangs_holds_up_no_other(opened: Opened) -> None:
    azure = await opened(timeout=3.0)
    azure.fault(kind="hang", times=20, path="*/routetables/rt1*", seconds=4.0)
    async with kept(azure, TABLE, OTHER) as made:
        made.want(frozenset({A}))
        await until("the other is written", lambda: made.writes == 1, timeout=2.0)


async def test_a_missing_right_is_said_and_a_granted_one_is_noticed(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "REFUSED", 0.3)
    azure.fault(kind="answer", status=403, times=3, method="PUT")
    seen = watch(azure, monkeypatch)
    async with kept(azure) as made:
        made.want(frozenset({A}))
        await until("it is said", made.problem)
        assert "AuthorizationFailed" in (made.problem() or "")
        await until("the table is right", lambda: done(made))
    assert len(seen.of("PUT")) == 4


async def test_arm_that_is_gone_withdraws_nothing_and_is_asked_ever_more_seldom(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETRY", (0.05, 30.0))
    async with kept(azure) as made:
        made.want(frozenset({A}))
        await until("the table is right", lambda: done(made))
        azure.fault(kind="close", times=250)
        seen = watch(azure, monkeypatch)
        before = made.view()
        made.look()
        await until("it failed for some time", lambda: all(each.failures >= 4 for each in made.tables.values()), 30.0)
        assert made.view() == before
        assert seen.of("PUT", "DELETE") == []
        assert len(seen.all) <= 36, "six attempts, with their short retries"
        azure.twin.faults.clear()
        made.want(frozenset({A, B}))
        await until("what changed meanwhile is done", lambda: done(made))
        assert seen.of("PUT", "DELETE") == [f"PUT {name_of(B)}"]
