"""What the commands that ask an agent print, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bgp_agent.cli.show import age
from bgp_agent.core.reports import Verified
from bgp_agent.core.values import PeerState, RouteState, SourceState
from bgp_agent.web.server import serving
from tests.unit.cli.conftest import Command, Served
from tests.unit.web.memory import Memory, route


async def test_status_is_a_compact_picture_and_good_when_ready(served: Served) -> None:
    done = await served("status")
    assert done.code == 0
    first, second, *rest = done.out.splitlines()
    assert first == "node-a: ready, 2 of 2 peers established"
    assert "traffic by bgp" in second
    assert "problems:" not in done.out
    assert any(line.split()[:3] == ["10.42.0.4", "65515", "established"] for line in rest)
    assert any(line.split()[:3] == ["192.168.1.0/26", "announced", "2"] for line in rest)
    assert "1 installed, 0 pending, 0 repaired" in done.out


async def test_status_of_an_unready_node_fails_and_shows_the_problems_first(served: Served) -> None:
    report = served.memory.report
    served.memory.report = replace(
        report, ready=False, reason="0 of 1 peers established",
        peers=(replace(report.peers[0], state=PeerState.DOWN, reason="hold timer expired"),),
        source=replace(report.source, state=SourceState.STALE, reason="blocks.yaml is gone"),
        kernel=replace(report.kernel, warnings=("ipv4 forwarding is off",), pending=3),
        config=replace(report.config, problem="config.yaml:3: bgp.asn: must be a number"),
    )  # fmt: skip
    done = await served("status")
    assert done.code == 1
    problems, rest = done.out.split("\nproblems:\n")[1].split("\n\n", 1)
    for text in ("config.yaml:3", "forwarding is off", "blocks.yaml is gone", "hold timer expired", "3 routes wait"):
        assert text in problems
    assert "PEER" in rest


async def test_a_proof_is_shown_with_its_age_and_off_in_words(served: Served) -> None:
    assert re.search(r"delivered to node-a, \d+d\d+h ago", (await served("status")).out)
    served.memory.report = replace(served.memory.report, mode="off")
    assert "nothing attracts traffic · 10.42.1.4" in (await served("status")).out


async def test_json_is_what_the_agent_serves(served: Served) -> None:
    status = await served("status", "--json")
    assert json.loads(status.out)["node"]["name"] == "node-a"
    served.memory.report = replace(served.memory.report, ready=False)
    assert (await served("status", "--json")).code == 1
    explained = await served("explain", "192.168.2.7", "--json")
    assert json.loads(explained.out)["verdict"] == "goes to 10.42.1.1 by eth0"
    probed = await served("probe", "192.168.2.7", "--json")
    assert json.loads(probed.out)["state"] == "delivered"


async def test_routes_are_filtered_and_paged(served: Served) -> None:
    served.memory.add(route("192.168.3.0/26", RouteState.REFUSED, "own block"), route("192.168.4.0/26"))
    refused = await served("routes", "--state", "refused")
    assert "192.168.3.0/26" in refused.out
    assert "own block" in refused.out
    assert "192.168.2.0/26" not in refused.out
    page = await served("routes", "--limit", "2")
    assert "2 of 3: --limit 0 shows all, --cursor 192.168.3.0/26" in page.out
    rest = json.loads((await served("routes", "--cursor", "192.168.3.0/26", "--json")).out)
    assert [one["prefix"] for one in rest["routes"]] == ["192.168.4.0/26"]


async def test_more_routes_than_a_page_are_all_listed_once(served: Served) -> None:
    served.memory.add(*(route(f"10.{n // 256}.{n % 256}.0/24") for n in range(10_500)))
    found = json.loads((await served("routes", "--limit", "0", "--json")).out)
    assert len({one["prefix"] for one in found["routes"]}) == found["total"] == 10_501


async def test_explain_says_it_in_words(served: Served) -> None:
    done = await served("explain", "192.168.2.7")
    assert done.code == 0
    assert done.out.startswith("192.168.2.7: goes to 10.42.1.1 by eth0\n")
    assert "  2. installed" in done.out
    assert "192.168.2.0/26 by 10.42.0.4: next hop 10.42.1.5, AS path 65515 64512: best" in done.out
    assert "the kernel says: 192.168.2.7 via 10.42.1.1 dev eth0" in done.out


@pytest.mark.parametrize(
    ("verified", "code", "words"),
    [
        (
            Verified("delivered", "node-b", "node-a", 1767225660.0, "answered"),
            0,
            "delivered to node-b, asked by node-a",
        ),
        (Verified("misdelivered", "node-c", "node-a", 1767225660.0, ""), 1, "misdelivered to node-c"),
        (Verified(reason="nobody answered"), 1, "not known: nobody answered"),
    ],
)
async def test_probe_is_good_only_when_delivered(
    served: Served, monkeypatch: pytest.MonkeyPatch, verified: Verified, code: int, words: str
) -> None:
    async def answer(_: str) -> Verified:
        return verified

    monkeypatch.setattr(served.memory, "probe", answer)
    done = await served("probe", "192.168.2.7")
    assert done.code == code
    assert words in done.out


async def test_nonsense_is_refused_with_the_remedy_as_wrong_usage(served: Served) -> None:
    done = await served("explain", "nonsense")
    assert done.code == 2
    assert done.out == ""
    assert "'nonsense' is not an IPv4 or IPv6 address" in done.err
    assert "give an address or a prefix" in done.err


async def test_an_escape_sequence_of_a_stranger_does_not_reach_the_terminal(served: Served) -> None:
    served.memory.add(route("192.168.3.0/26", reason="\x1b]0;owned\x07 and\nmore"))
    done = await served("routes")
    assert "\x1b" not in done.out
    assert r"\x1b]0;owned\x07 and\nmore" in done.out


async def test_a_pipe_gets_no_colours_or_boxes(served: Served) -> None:
    done = await served("status")
    assert done.out.isascii() or set(done.out) - set(map(chr, range(128))) == {"·"}
    assert "\x1b" not in done.out


def on_terminal(argv: list[str], env: dict[str, str]) -> str:
    """What a command prints on a terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen(argv, stdout=follower, stdin=follower, stderr=follower, env=os.environ | env):
        os.close(follower)
        text = b""
        try:
            while piece := os.read(leader, 65536):
                text += piece
        except OSError:  # the terminal's way to say end of file
            pass
    os.close(leader)
    return text.decode()


LONG_REASON = "learned from 10.42.0.4 and 10.42.0.5; in the kernel via 10.42.1.1 on eth0"


@pytest.mark.parametrize(
    ("prefix", "columns"),
    [("192.168.199.128/26", 80), ("192.168.199.128/26", 40), ("2001:db8:1234:5678:9abc::/122", 80)],
)
async def test_a_narrow_terminal_cuts_neither_prefix_nor_state_nor_reason(
    served: Served, prefix: str, columns: int
) -> None:
    served.memory.add(route(prefix, reason=LONG_REASON))
    argv = [sys.executable, "-m", "bgp_agent", "routes", "--url", served.url]
    env = {"TERM": "xterm-256color", "COLUMNS": str(columns), "NO_COLOR": "1"}
    shown = await asyncio.to_thread(on_terminal, argv, env)
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    for text in (prefix, "installed", "delivered to node-b"):
        assert text in shown
    row = shown[shown.index(prefix) :].split()
    assert [word for word in row if word in LONG_REASON.split()][-13:] == LONG_REASON.split()


async def test_a_wide_terminal_shows_every_column(served: Served) -> None:
    argv = [sys.executable, "-m", "bgp_agent", "routes", "--url", served.url]
    shown = await asyncio.to_thread(on_terminal, argv, {"TERM": "xterm-256color", "COLUMNS": "160", "NO_COLOR": "1"})
    heads = re.sub(r"\x1b\[[0-9;]*m", "", shown.split("\n")[0])
    assert " ".join(heads.split()) == "PREFIX STATE NEXT HOPS FROM AS PATH PROOF WHY"


async def test_a_terminal_gets_colours_unless_it_asked_for_none(served: Served) -> None:
    argv = [sys.executable, "-m", "bgp_agent", "status", "--url", served.url]
    coloured = await asyncio.to_thread(on_terminal, argv, {"TERM": "xterm-256color", "COLUMNS": "200"})
    plain = await asyncio.to_thread(on_terminal, argv, {"TERM": "xterm-256color", "COLUMNS": "200", "NO_COLOR": "1"})
    assert "\x1b[32m" in coloured
    assert "\x1b[32m" not in plain
    assert "established" in plain


async def test_a_reader_that_has_seen_enough_is_no_error(served: Served) -> None:
    served.memory.add(*(route(f"10.{n // 256}.{n % 256}.0/24") for n in range(5000)))
    script = f"set -o pipefail; {sys.executable} -m bgp_agent routes --limit 0 --url {served.url} | head -1"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.startswith("PREFIX")
    assert done.stderr == ""
    assert done.returncode == 0


# --- where it asks, and when nobody answers --------------------------------------------------------------------------
def test_without_an_agent_the_remedy_is_said(bgp_agent: Command) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = bgp_agent("status", "--url", url)
    assert done.code == 1
    assert done.err.startswith(f"bgp-agent: no agent answers at {url}: is `bgp-agent run` started?")


@pytest.mark.parametrize("url", ["nonsense", "https://127.0.0.1:9179", "http://", "http://h:port", "http://h/?x=1"])
def test_a_url_that_is_none_is_wrong_usage(bgp_agent: Command, url: str) -> None:
    done = bgp_agent("status", "--url", url)
    assert done.code == 2
    assert "http://127.0.0.1:9179" in done.err


CONFIG = """
pools: [192.168.0.0/16]
bgp: {{asn: 64512, peers: [{{address: 10.42.0.4, asn: 65515}}]}}
http: {{listen: "{listen}"}}
"""


async def test_the_order_of_places_is_option_environment_config(
    served: Served, bgp_agent: Command, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(listen=served.url.removeprefix("http://").replace("127.0.0.1", "0.0.0.0")))
    by_config = await asyncio.to_thread(bgp_agent, "status", "-c", config)
    assert by_config.code == 0, by_config.err
    first = await asyncio.to_thread(bgp_agent, "-c", config, "status")
    assert first.code == 0, first.err
    by_environment = await asyncio.to_thread(bgp_agent, "status", env={"BGP_AGENT_URL": served.url})
    assert by_environment.code == 0
    wrong = {"BGP_AGENT_URL": "http://127.0.0.1:1"}
    assert (await asyncio.to_thread(bgp_agent, "status", "-c", config, env=wrong)).code == 1
    assert (await served("status", env=wrong)).code == 0


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """A port that answers everything with the same bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(5)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\n\r\n<html>", b"HTTP/1.0 200 OK\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n[1]",
        b"HTTP/1.0 500 No\r\n\r\nTraceback", b"220 mail ESMTP\r\n", b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
    ],
)  # fmt: skip
def test_something_else_that_answers_is_no_crash(bgp_agent: Command, data: bytes) -> None:
    with answering(data) as url:
        done = bgp_agent("status", "--url", url)
    assert done.code == 1
    assert url in done.err


async def test_metrics_only_is_not_an_agent_to_ask(memory: Memory, bgp_agent: Command) -> None:
    async with serving(memory, "127.0.0.1:0", "127.0.0.1:0") as (_, port):
        done = await asyncio.to_thread(bgp_agent, "status", "--url", f"http://127.0.0.1:{port}")
    assert done.code == 1
    assert "nothing is here" in done.err


@pytest.mark.parametrize(
    ("ago", "shown"), [(0, "0s"), (59, "59s"), (61, "1m1s"), (3 * 3600 + 60, "3h1m"), (90_000, "1d1h"), (-500, "0s")]
)
def test_ages_are_short(monkeypatch: pytest.MonkeyPatch, ago: int, shown: str) -> None:
    monkeypatch.setattr("time.time", lambda: 1767225600.0 + ago)
    assert age("2026-01-01T00:00:00Z") == shown


def test_an_age_that_cannot_be_read_is_no_crash() -> None:
    assert age("yesterday") == "-"
