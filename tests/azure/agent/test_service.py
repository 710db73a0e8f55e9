"""The agent's side of Azure as a whole, against the twin: found, remembered, kept, proved, warned of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from bgp_agent.cloud import azure as service
from bgp_agent.cloud import proving, resources, scheduled
from bgp_agent.cloud.asking import Wanted
from bgp_agent.cloud.azure import Azure as Service
from bgp_agent.cloud.azure import Settings
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.remembered import Remembered
from bgp_agent.core.cloudtable import name_of
from bgp_agent.core.prefix import Prefix, parse_address, parse_prefix
from tests.azure.agent.conftest import CONFIG, NETWORK, SERVER, TABLE, Azure, Opened
from tests.azure.agent.test_keeping import until, watch

A = parse_prefix("192.168.1.0/26")
HERE = parse_address("10.42.1.4")
NONE: frozenset[Prefix] = frozenset()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "AGAIN", (0.1, 0.5))
    monkeypatch.setattr(service, "PEERING", (0.1, 5.0))
    monkeypatch.setattr(scheduled, "EVENTS", 0.05)
    monkeypatch.setattr(proving, "PROOF", (0.1, 300.0))


def settings(azure: Azure | None, folder: Path, **more: object) -> Settings:
    url = azure.url if azure is not None else "http://127.0.0.1:9"
    made = Settings("a", folder, url, url, allow_http=True)
    return replace(made, **more)  # type: ignore[arg-type]  # a test's short hand


@asynccontextmanager
async def serving(given: Settings, found: Callable[[Remembered], None] = lambda _: None) -> AsyncIterator[Service]:
    made = Service(given, lambda: None, found)
    task = asyncio.create_task(made.run())
    try:
        yield made
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_everything_is_found_and_the_tables_are_kept(azure: Azure, tmp_path: Path) -> None:
    told: list[Remembered] = []
    async with serving(settings(azure, tmp_path), told.append) as made:
        made.want(frozenset({A}), NONE, urgent=False)
        await until("both tables have it", lambda: made.tables is not None and made.tables.writes == 2)
        view = made.view()
    assert (told[-1].address, told[-1].asn, told[-1].peers) == ("10.42.1.4", 64512, ("10.42.0.4", "10.42.0.5"))
    assert (view.alone, view.problem, view.notes) == (None, None, ())
    assert view.tables is not None
    assert [[each.name for each in table.routes] for table in view.tables] == [[name_of(A)]] * 2
    assert {table.limit for table in view.tables} == {1000}


async def test_an_agent_that_starts_while_arm_is_gone_goes_on_with_what_it_found_last(
    azure: Azure, tmp_path: Path
) -> None:
    async with serving(settings(azure, tmp_path)) as made:
        await until("all is found", lambda: made.known is not None and made.view().tables)
    await resources.put_route(azure.arm, TABLE, name_of(A), A, HERE)
    azure.fault(kind="answer", status=503, times=1000, retry_after=5)
    told: list[Remembered] = []
    async with serving(settings(azure, tmp_path), told.append) as made:
        made.want(frozenset({A}), NONE, urgent=False)
        await until("it is said that ARM is gone", lambda: "503" in str(made.view().problem))
        assert made.view().tables is None, "what is in them is not known"
        await until("it looked around in vain", lambda: made.discovered)
        assert told[-1].peers == ("10.42.0.4", "10.42.0.5")
        assert len(told[-1].tables) == 2, "a discovery that finds nothing is no discovery of nothing"
        azure.twin.faults.clear()
        await until("the tables are read", lambda: made.view().tables)


async def test_tables_that_could_not_be_found_yet_are_not_no_tables(azure: Azure, tmp_path: Path) -> None:
    azure.fault(kind="answer", status=503, times=1000, retry_after=5)
    async with serving(settings(azure, tmp_path)) as made:
        await until("it looked around", lambda: made.discovered is not None)
        assert made.view().node is not None
        assert made.view().tables is None, "or routes that are found later would count as new"
        azure.twin.faults.clear()
        await until("they are found", lambda: made.view().tables)


async def test_rights_that_are_taken_away_make_nothing_forgotten(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_AROUND", 0.2)
    async with serving(settings(azure, tmp_path)) as made:
        made.want(frozenset({A}), NONE, urgent=False)
        await until("both tables have it", lambda: made.tables is not None and made.tables.writes == 2)
        before = made.view()
        azure.fault(kind="answer", status=403, times=100000)
        await until("it is said", lambda: any("is not known" in each for each in made.view().notes))
        after = made.view()
        assert (after.tables, after.alone, after.network.space) == (before.tables, None, before.network.space)
        assert made.known is not None
        assert made.known.connection is not None
        azure.twin.faults.clear()


async def test_without_a_peering_of_ours_it_lives_by_the_table_and_says_so(azure: Azure, tmp_path: Path) -> None:
    await azure.arm.delete(f"{SERVER}/bgpConnections/a")
    async with serving(settings(azure, tmp_path)) as made:
        await until("it is said", lambda: made.view().alone)
        assert "rs1 has no bgpConnection for this node: it lives by the route table" in str(made.view().alone)
        await azure.arm.put(f"{SERVER}/bgpConnections/a", {"properties": {"peerIp": "10.42.1.4", "peerAsn": 64512}})
        made._look.set()
        await until("it has one", lambda: made.view().alone is None)


async def test_a_network_without_a_route_server_is_no_missing_right(opened: Opened, tmp_path: Path) -> None:
    azure = await opened(config=CONFIG[: CONFIG.index("route_server:")] + CONFIG[CONFIG.index("nics:") :])
    async with serving(settings(azure, tmp_path)) as made:
        await until("it is said", lambda: made.view().alone)
        assert made.view().alone == "no Route Server serves this network"


async def test_imds_that_is_not_there_is_said_once_and_asked_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AGAIN", (0.02, 0.5))
    monkeypatch.setattr(service, "NO_IMDS", 0.05)
    with capture_logs() as logs:
        structlog.get_logger("bgp_agent")
        async with serving(settings(None, tmp_path, arm_url=None)) as made:
            await until("it is said", lambda: made.view().problem)
            await asyncio.sleep(0.5)  # ten more tries
            assert "not an Azure VM, or IMDS is blocked" in str(made.view().problem)
    assert len([each for each in logs if each["log_level"] == "warning"]) <= 1


async def test_events_of_this_machine_ask_for_maintenance_and_those_of_others_do_not(
    azure: Azure, tmp_path: Path
) -> None:
    async with serving(settings(azure, tmp_path)) as made:
        await until("it knows its name", lambda: made.discovered)
        azure.schedule("Reboot", "b")
        azure.schedule("Redeploy", "a")
        await until("the event is noticed", lambda: made.view().event)
        assert "Azure is to Redeploy this machine (Scheduled" in str(made.view().event)
        assert "Reboot" not in str(made.view().event)


async def test_what_is_announced_lasts_while_imds_does_not_answer(azure: Azure) -> None:
    made = scheduled.Scheduled(azure.imds, lambda: None)
    made.machine = "a"
    azure.schedule("Freeze", "a")
    assert await made.look() == scheduled.EVENTS
    words = made.words
    made._imds = type(azure.imds)("http://127.0.0.1:9", timeout=0.3)
    assert await made.look() == scheduled.EVENTS * 5
    assert words is not None
    assert made.words == words
    await made._imds.close()


async def test_its_own_peering_is_made_once_and_not_touched_again(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await azure.arm.delete(f"{SERVER}/bgpConnections/a")
    writes: list[bool] = []
    put = resources.put_connection

    async def counted(*args: object) -> bool:
        writes.append(await put(*args))  # type: ignore[arg-type]  # handed on as it came
        return writes[-1]

    monkeypatch.setattr(resources, "put_connection", counted)
    given = settings(azure, tmp_path, manage_peering=True, known=Wanted(asn=64512))
    async with serving(given):
        await until("several passes", lambda: len(writes) >= 4)
        assert writes.count(True) == 1
    found = {each.name: each.asn for each in await resources.list_connections(azure.arm, SERVER)}
    assert found == {"b": 64513, "bgp-agent-a": 64512}


async def test_a_route_server_that_takes_no_more_peers_is_asked_ever_more_seldom(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure = await opened(config=CONFIG.replace("imds_per_second: 0", "imds_per_second: 0, bgp_peers: 2"))
    await azure.arm.delete(f"{SERVER}/bgpConnections/a")
    await azure.arm.put(f"{SERVER}/bgpConnections/x", {"properties": {"peerIp": "10.42.2.4", "peerAsn": 64999}})
    tries: list[float] = []
    put = resources.put_connection

    async def counted(*args: object) -> bool:
        tries.append(asyncio.get_running_loop().time())
        return await put(*args)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(resources, "put_connection", counted)
    given = settings(azure, tmp_path, manage_peering=True, known=Wanted(asn=64512))
    async with serving(given) as made:
        await until("it tried four times", lambda: len(tries) >= 4)
        assert any("the own bgpConnection cannot be kept" in each for each in made.view().notes)
    assert tries[-1] - tries[-2] > 1.5 * (tries[1] - tries[0])


async def test_proof_that_is_not_granted_is_said_with_the_right_that_helps_and_noticed_when_it_comes(
    azure: Azure, tmp_path: Path
) -> None:
    message = (
        "The client does not have authorization to perform action "
        "'Microsoft.Network/networkInterfaces/effectiveRouteTable/action' over scope '/x'."
    )
    azure.fault(kind="answer", status=403, times=1, method="POST", path="*/effectiveroutetable", message=message)
    async with serving(settings(azure, tmp_path)) as made:
        await until("it is said", lambda: any("grant Microsoft" in each for each in made.view().notes))
        assert not made.view().provable
        made.want(NONE, NONE, urgent=True)
        await until("it is granted", lambda: made.view().provable and made.view().network.effective)
        assert not any("grant Microsoft" in each for each in made.view().notes)


async def test_while_a_decision_waits_the_network_is_asked_ever_more_seldom_and_at_once_for_a_new_one(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    loop = asyncio.get_running_loop()
    made = proving.Proving(azure.arm, lambda: asked.append(loop.time()), loop.time)
    made.about(None, ResourceId(f"{NETWORK}/networkInterfaces/nic-a"))
    monkeypatch.setattr(proving, "PROOF", (0.05, 300.0))
    task = asyncio.create_task(made.run())
    try:
        await until("the first answer", lambda: asked)
        made.want(1, urgent=True)
        await until("some more", lambda: len(asked) >= 6)
        assert asked[-1] - asked[-2] > 2 * 0.05, "the network is not asked for ever at the same pace"
        made.want(2, urgent=True)
        before = loop.time()
        await until("one about the new decision", lambda: asked[-1] > before, timeout=0.5)
        made.want(2, urgent=False)
        await asyncio.sleep(1.0)
        count = len(asked)
        await asyncio.sleep(0.5)
        assert len(asked) == count, "no decision waits"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("body", [b"<html>login</html>", b"{", b'{"value": 7}', b"[" * 100_000, b"\xff\xfe", b""])
async def test_garbage_in_arms_place_changes_nothing(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(service, "LOOK_AROUND", 0.1)
    async with serving(settings(azure, tmp_path)) as made:
        made.want(frozenset({A}), NONE, urgent=True)
        await until("both tables have it", lambda: made.tables is not None and made.tables.writes == 2)
        before = made.view()
        serve = azure.twin.serve

        def answering(request: object, *, control: bool) -> object:
            found = serve(request, control=control)  # type: ignore[arg-type]  # handed on as it came
            arm = str(getattr(request, "path", "")).startswith("/subscriptions")
            return replace(found, status=200, body=body, headers={}) if arm else found

        monkeypatch.setattr(azure.twin, "serve", answering)
        for kept in made.tables.tables.values() if made.tables is not None else ():
            kept.read_at = float("-inf")
        made._look.set()
        await until("it is noticed", lambda: made.view().notes or made.view().problem)
        monkeypatch.setattr(azure.twin, "serve", serve)
        after = made.view()
        assert (after.tables, after.node, after.alone) == (before.tables, before.node, before.alone)
        seen = watch(azure, monkeypatch)
        await until("all is well again", lambda: not made.view().problem, timeout=30.0)
        assert seen.of("PUT", "DELETE") == []
