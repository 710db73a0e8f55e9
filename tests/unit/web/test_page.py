"""The page: whole without a script, from this server alone, and safe whatever the texts hold."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import aiohttp

from bgp_agent.web import page
from tests.unit.web.memory import START, Memory, route

VOID = {"meta", "input", "br", "link", "img"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects the text and what would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in {"src", "action", "href"}]
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.words += data + " "


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    assert not found.open
    return found


async def test_the_first_view_is_whole_without_a_script(http: aiohttp.ClientSession, memory: Memory) -> None:
    memory.report = replace(memory.report, kernel=replace(memory.report.kernel, warnings=("forwarding is off",)))
    async with http.get("/") as answer:
        assert answer.content_type == "text/html"
        words = outline(await answer.text()).words
    for text in ("node-a", "Ready", "2 of 2 peers established", "10.42.0.4", "established", "192.168.1.0/26",
                 "announced", "192.168.2.0/26", "installed", "10.42.1.1", "file", "forwarding is off"):  # fmt: skip
        assert text in words


async def test_nothing_is_loaded_from_elsewhere(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as answer:
        text = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert all(one.startswith("/") for one in outline(text).loads)
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_texts_of_strangers_are_text(memory: Memory) -> None:
    evil = "<script>alert(1)</script>"
    memory.report = replace(
        memory.report, reason=evil, node=replace(memory.report.node, name=evil),
        peers=(replace(memory.report.peers[0], reason=evil),),
        config=replace(memory.report.config, problem=evil, path=evil),
    )  # fmt: skip
    text = page.render(memory.report, [route("192.168.2.0/26", reason=evil)], START)
    assert text.count("<script>") == 1
    assert text.count("&lt;script&gt;alert") >= 5
    outline(text)


def test_a_state_is_a_word_and_not_only_a_colour(memory: Memory) -> None:
    memory.report = replace(memory.report, ready=False, mode="off")
    words = outline(page.render(memory.report, [], START)).words
    assert "Not ready" in words
    assert "off" in words
