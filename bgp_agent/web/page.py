"""The page at ``/``: the state of this node for a person, in one self-contained answer.

The server writes the whole picture, so it is complete without a script. The script only asks for the same page again
when ``/events`` says that something changed (at most once a second) and puts the new ``<main>`` in place of the old.
Style and script are named by hash in the Content-Security-Policy; nothing else may run or load.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from bgp_agent.core.prefix import address_text, prefix_text
from bgp_agent.core.reports import BlockReport, PeerReport, RouteReport, Status, Verified
from bgp_agent.web.encode import time_text

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--card:#f6f8fa;--line:#d0d7de;
--good:#116329;--goodbg:#dafbe1;--warn:#7d4e00;--warnbg:#fff1c9;--bad:#a40e26;--badbg:#ffe3e6}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--paper:#0d1117;--card:#161b22;--line:#30363d;
--good:#7ee787;--goodbg:#12361d;--warn:#f0c674;--warnbg:#3b2e07;--bad:#ffa198;--badbg:#4a1216}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.5rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p{margin:.3rem 0}.soft,caption,dt{color:var(--soft)}
header{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:baseline}
.verdict{border-left:.4rem solid;padding:.6rem 1rem;margin:1rem 0;border-radius:.3rem}
.good{color:var(--good);background:var(--goodbg)}.warn{color:var(--warn);background:var(--warnbg)}
.bad{color:var(--bad);background:var(--badbg)}
.badge{display:inline-block;padding:0 .5em;border-radius:1em;font-size:.9em;white-space:nowrap}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.95rem}
caption{text-align:left;font-size:.9rem;padding-bottom:.3rem}
th,td{text-align:left;padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}td.number,th.number{text-align:right}code,.mono{font-family:ui-monospace,monospace}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:0}dd{margin:0}
form{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center}
input,button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:.3rem;
padding:.3rem .6rem}:focus-visible{outline:3px solid #4493f8;outline-offset:1px}
pre{white-space:pre-wrap;background:var(--card);padding:.8rem;border-radius:.3rem}[hidden]{display:none}
footer{margin-top:2rem;border-top:1px solid var(--line);padding-top:.6rem}
"""

SCRIPT: Final = """
"use strict";
const live = document.getElementById("live");
let waiting = false, again = false;
function lost() { live.textContent = "no answer from the agent; this is the last known state"; }
async function refresh() {
  if (waiting) { again = true; return; }
  waiting = true;
  try {
    const answer = await fetch("/", {cache: "no-store"});
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceWith(fresh.querySelector("main"));
      document.title = fresh.title;
    }
  } catch (error) { lost(); }
  setTimeout(() => { waiting = false; if (again) { again = false; refresh(); } }, 1000);
}
const source = new EventSource("/events");
source.addEventListener("change", refresh);
source.addEventListener("open", () => { live.textContent = "live"; refresh(); });
source.addEventListener("error", lost);
const form = document.querySelector("form"), answer = document.getElementById("answer");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  answer.hidden = false;
  try {
    const found = await (await fetch("/explain?for=" + encodeURIComponent(form.elements.for.value))).json();
    answer.textContent = found.error ? found.error + "\\n" + found.remedy
      : [found.verdict, "", ...found.steps.map((step, n) => (n + 1) + ". " + step)].join("\\n");
  } catch (error) { answer.textContent = "no answer from the agent"; }
});
"""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY: Final = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_TONES: Final = {
    "established": "good", "announced": "good", "installed": "good", "synced": "good", "delivered": "good",
    "bgp": "good", "fallback": "warn", "maintenance": "warn", "off": "warn", "standby": "good",
    "down": "bad", "refused": "warn", "misdelivered": "bad", "disabled": "warn",
}  # fmt: skip
"""How a state looks; the word itself always stands beside the colour. What is not here is ``warn``."""


def render(report: Status, routes: Sequence[RouteReport], now: float) -> str:
    """The page. ``now``: seconds since the epoch."""
    name = escape(report.node.name)
    verdict = "ready" if report.ready else "not ready"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{verdict}: {name} · bgp-agent</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>\n<header><h1>{name}</h1>"
        f'<span class="soft">bgp-agent {escape(report.node.version)}</span>'
        f'<span class="soft" id="live" role="status">as of {time_text(now)}</span></header>\n'
        f"<main>{_headline(report)}{_peers(report.peers)}{_blocks(report.blocks)}"
        f"{_routes(routes, report.routes_total)}{_rest(report)}</main>\n{_ask()}"
        '<footer class="soft">For programs: <a href="/status">/status</a> · <a href="/routes">/routes</a> · '
        '<a href="/metrics">/metrics</a> · <a href="/events">/events</a></footer>\n'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _headline(report: Status) -> str:
    tone = "good" if report.ready else "bad"
    problems = "".join(f"<li>{escape(one)}</li>" for one in _problems(report))
    listed = f"<ul>{problems}</ul>" if problems else ""
    return (
        f'<div class="verdict {tone}"><p><strong>{"Ready" if report.ready else "Not ready"}</strong>: '
        f"{escape(report.reason)}</p>{listed}</div>"
        f"<dl><dt>Traffic is attracted by</dt><dd>{_badge(report.mode)}</dd>"
        f'<dt>Address</dt><dd class="mono">{escape(_addresses(report))}</dd>'
        f"<dt>Started</dt><dd>{time_text(report.node.started)}</dd></dl>\n"
    )


def _addresses(report: Status) -> str:
    return ", ".join(one for one in (report.node.address, report.node.address6) if one)


def _problems(report: Status) -> Iterable[str]:
    if report.config.problem:
        yield f"The config file is refused, the last good one goes on: {report.config.problem}"
    if report.config.restart_needed:
        yield f"Waiting for a restart: {', '.join(report.config.restart_needed)}"
    yield from report.kernel.warnings


def _peers(peers: Sequence[PeerReport]) -> str:
    rows = [
        (_mono(p.address), str(p.asn), _badge(p.state.value), str(p.received), str(p.accepted), str(p.announced),
         str(p.flaps), escape(p.reason))
        for p in peers
    ]  # fmt: skip
    heads = ("Peer", "AS", "State", "#Received", "#Accepted", "#Announced", "#Flaps", "Why")
    return _table("Peers", "BGP neighbours and the number of prefixes from and to each", heads, rows)


def _blocks(blocks: Sequence[BlockReport]) -> str:
    rows = [
        (_mono(prefix_text(b.prefix)), _badge(b.state.value), _mono(", ".join(b.peers)), _proof(b.verified),
         escape(b.reason))
        for b in blocks
    ]  # fmt: skip
    return _table(
        "Own blocks", "What this node owns and tells the network", ("Block", "State", "Peers", "Proof", "Why"), rows
    )


def _routes(routes: Sequence[RouteReport], total: int) -> str:
    rows = [
        (_mono(prefix_text(r.prefix)), _badge(r.state.value), _mono(", ".join(map(address_text, r.next_hops))),
         _proof(r.verified), escape(r.reason))
        for r in routes
    ]  # fmt: skip
    counts = Counter(r.state.value for r in routes)
    words = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    caption = f"What peers own: {total} in all" + (f"; the first {len(routes)} here" if len(routes) < total else "")
    return _table(
        "Routes", caption + (f" ({words})" if words else ""), ("Prefix", "State", "Next hops", "Proof", "Why"), rows
    )


def _rest(report: Status) -> str:
    kernel, source, fallback = report.kernel, report.source, report.fallback
    routes = ", ".join(f"{prefix_text(each.prefix)} {each.state}" for each in fallback.routes) or "no routes"
    written = f"{kernel.installed} installed, {kernel.pending} pending, {kernel.repaired} repaired"
    where = f"table {kernel.table}, protocol {kernel.protocol}, metric {kernel.metric}"
    rows = (
        ("Block source", f"{_badge(source.state.value)} {escape(source.kind)}: {escape(source.reason)}"),
        ("Kernel", f"{written} ({where})"),
        ("Fallback", f"{_badge(fallback.state)} {escape(fallback.mode)}, {escape(routes)}. {escape(fallback.reason)}"),
        ("Config", f"{_mono(report.config.path)}, read {time_text(report.config.loaded)}"),
    )
    return "<h2>This node</h2><dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows) + "</dl>\n"


def _ask() -> str:
    return (
        '<h2 id="ask">What happens to a packet?</h2><form action="/explain"><label for="for">Address or prefix</label>'
        '<input id="for" name="for" required placeholder="192.168.2.7" autocomplete="off">'
        '<button>Explain</button></form><pre id="answer" role="status" hidden></pre>\n'
    )


def _table(title: str, caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already. A head that begins with ``#`` is a column of numbers."""
    numbers = [' class="number"' if head.startswith("#") else "" for head in heads]
    top = "".join(f'<th scope="col"{mark}>{head.lstrip("#")}</th>' for head, mark in zip(heads, numbers, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{cell}</td>" for cell, mark in zip(row, numbers, strict=True)) + "</tr>"
        for row in rows
    )
    body = body or f'<tr><td colspan="{len(heads)}" class="soft">none</td></tr>'
    return (
        f'<h2>{title}</h2><div class="scroll" tabindex="0" role="region" aria-label="{title}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def _badge(state: str) -> str:
    return f'<span class="badge {_TONES.get(state, "warn")}">{escape(state)}</span>'


def _mono(text: str) -> str:
    return f'<span class="mono">{escape(text)}</span>'


def _proof(verified: Verified) -> str:
    if verified.state == "unknown":
        return f'<span class="soft" title="{escape(verified.reason)}">not known</span>'
    when = time_text(verified.at)
    return f"{_badge(verified.state)} to {escape(verified.node or 'nobody')}" + (f", {when}" if when else "")
