"""``make lab``: the cluster on the Azure twin, as a story that a newcomer can follow; every chapter is a promise."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from lab import proofs
from lab.azure import INSTANCES, AzureLab
from lab.netns import ExpiredError
from lab.topology import Node, StatusError
from lab.traffic import Count

GOOD: Final = "[green]✓[/]"
BAD: Final = "[red]✗[/]"
PATIENCE: Final = 60.0
"""Seconds that anything may take."""


class FailedError(Exception):
    """The lab did not show what it promises; the message says what was seen instead."""


class Show:
    """Each chapter raises :class:`FailedError` when its promise does not hold."""

    def __init__(self, lab: AzureLab, console: Console) -> None:
        self._lab = lab
        self._console = console
        self._story: list[tuple[str, str, str]] = []  # what was done, what attracted the traffic, what the table held

    def play(self) -> None:
        """Everything from the start of the processes to the last packet."""
        lab = self._lab
        self._console.print(self._plan())
        with self._stage("start the Azure twin (ARM, IMDS, fabric, 2 BIRDs as Route Server), 3 speakers and 3 agents"):
            lab.start()
        with self._stage("every node finds its Route Server, peers, AS number and route table by itself"):
            self._until("every block is carried by BGP alone", _on_bgp)
        self._console.print(self._found())
        with self._stage("every pod pings every other pod"):
            pings = proofs.ping_all(lab)
        self._console.print(self._pings(pings))
        with self._stage("every node asks the network who gets a packet for each block"):
            answers = list(proofs.probe_all(lab))
        self._console.print(self._answers(answers))
        with proofs.traffic_between(lab, self._pairs()) as traffic:
            self._hand_over()
            counts = traffic.finish()
        self._console.print(self._told())
        self._console.print(self._counted(counts))
        self._judge(pings, answers, counts)

    def _hand_over(self) -> None:
        """From BGP to the route table and back, under traffic."""
        twin, node = self._lab.twin, self._lab.nodes["node-b"]
        self._note("before")
        with self._stage("stop one Route Server instance: the route table takes over"):
            twin.twin("POST", "instances/1", {"state": "down"})
            self._until("every block is in the route table", _on_the_table)
        self._note("one instance stopped")
        with self._stage("stop the other one, too, and kill node-a's agent (SIGKILL): the table alone carries"):
            twin.twin("POST", "instances/0", {"state": "down"})
            self._until("no peer is left", lambda _, status: not _established(status))
            self._lab.nodes["node-a"].end_agent(signal.SIGKILL)
            self._lab.nodes["node-a"].start_agent()
            self._until("every agent is back on the table", _on_the_table)
        self._note("both stopped, an agent killed")
        with self._stage("start both again: BGP is watched, tried with one block, and only then trusted"):
            for number in range(len(INSTANCES)):
                twin.twin("POST", f"instances/{number}", {"state": "up"})
            self._until("every block is carried by BGP alone", _on_bgp)
        self._note("both back")
        with self._stage("drain node-b, and take it back: the table first, then BGP goes"):
            self._command(node, "drain")
            self._note("node-b drained")
            self._command(node, "undrain")
            self._until("every block is carried by BGP alone", _on_bgp)
        self._note("node-b back")

    # --- waiting -----------------------------------------------------------------------------------------------------
    @contextmanager
    def _stage(self, what: str) -> Iterator[Status]:
        start = time.monotonic()
        if not self._console.is_terminal:
            self._say("…", what)
        with self._console.status(what) as status:
            yield status
        self._say(GOOD, f"{what} [dim]({time.monotonic() - start:.1f} s)[/]")

    def _say(self, mark: str, what: str) -> None:
        """One line; where it is too long for the terminal, it goes on below its own beginning."""
        line = Table.grid(padding=(0, 1))
        line.add_row(mark, what)
        self._console.print(line, highlight=False)

    def _until(self, what: str, good: Callable[[AzureLab, Any], bool]) -> None:
        """Until ``good`` says so of every node's status."""
        lab, lacking = self._lab, list[str]()

        def holds() -> bool:
            lacking.clear()
            for node in lab.nodes.values():
                try:
                    status = node.status()
                except StatusError as error:
                    lacking.append(str(error))
                    continue
                if not good(lab, status):
                    lacking.append(f"{node.name}: {status['mode']}: {status['reason']}; {status['fallback']['reason']}")
            return not lacking

        if not wait(holds, PATIENCE):
            raise FailedError("\n  ".join([f"after {PATIENCE:g} s still not so: {what}", *lacking]))

    def _command(self, node: Node, word: str) -> None:
        done = node.ask(word, timeout=PATIENCE)
        if done.returncode:
            raise FailedError(f"`bgp-agent {word}` on {node.name}: {done.stdout}{done.stderr}")

    def _pairs(self) -> list[tuple[str, str]]:
        """Each pair once, though it crosses at both of its nodes."""
        return list(dict.fromkeys(p for node in self._lab.nodes.values() for p in proofs.crossing(self._lab, node)))

    def _note(self, when: str) -> None:
        """One line of the story, as the nodes and the table tell it."""
        says = {name: node.status()["mode"] for name, node in self._lab.nodes.items()}
        words = says["node-a"] if len(set(says.values())) == 1 else ", ".join(f"{n} {m}" for n, m in says.items())
        table = self._lab.twin.table()
        self._story.append((when, words, f"{len(table)} of {len(self._lab.blocks())}"))

    # --- tables ------------------------------------------------------------------------------------------------------
    def _plan(self) -> Table:
        table = _table("The lab: three nodes of one cluster in two subnets", "node", "address", "its blocks", "pods")
        for plan in self._lab.plan:
            pods = "\n".join(f"{name} {address}" for name, address in plan.pods.items())
            table.add_row(plan.name, plan.address, "\n".join(plan.blocks), pods)
        return table

    def _found(self) -> Table:
        table = _table("What each node found with `azure:` in its config", "node", "its address", "peers",
                       "route table", "in effect for its blocks")  # fmt: skip
        for name, node in self._lab.nodes.items():
            status = node.status()
            carried = {(each["reachable"] or {"by": "asked every 5 minutes"})["by"] for each in status["blocks"]}
            peers = "\n".join(f"{each['address']} AS {each['asn']}" for each in status["peers"])
            table.add_row(name, status["node"]["address"], peers,
                          ", ".join(status["fallback"]["tables"]), ", ".join(sorted(map(str, carried))))  # fmt: skip
        return table

    def _pings(self, pings: list[proofs.Ping]) -> Table:
        pods = list(self._lab.pods())
        times = {(ping.source, ping.target): ping.milliseconds for ping in pings}
        table = _table("Ping from pod to pod, milliseconds", "from ╲ to", *pods)
        for source in pods:
            table.add_row(source, *(_time(times.get((source, target)), source == target) for target in pods))
        return table

    def _answers(self, answers: list[proofs.Probe]) -> Table:
        table = _table("Who gets a packet for a block: the network's own answer", "asked by", "for", "owner",
                       "answered by", "", "ms")  # fmt: skip
        for one in answers:
            verdict = GOOD if one.right else f"{BAD} {one.state}: {one.reason}"
            table.add_row(one.asked_by, one.block, one.owner, one.node or "-", verdict, f"{one.milliseconds:.1f}")
        return table

    def _told(self) -> Table:
        table = _table("The hand-over", "", "what attracts the traffic", "blocks in the route table")
        for row in self._story:
            table.add_row(*row)
        return table

    def _counted(self, counts: list[Count]) -> Table:
        table = _table("Packets from pod to pod all the while", "", "sent", "packets lost", "longest silence, ms", "")
        for one in counts:
            verdict = BAD if one.lost else GOOD
            table.add_row(one.name, str(one.sent), str(len(one.lost)), f"{one.silence * 1000:.0f}", verdict)
        return table

    def _judge(self, pings: list[proofs.Ping], answers: list[proofs.Probe], counts: list[Count]) -> None:
        wrong = [f"{p.source} cannot ping {p.target}" for p in pings if p.milliseconds is None]
        wrong += [f"{a.asked_by}: {a.block} is {a.state} ({a.reason})" for a in answers if not a.right]
        wrong += [f"{c.name}: {len(c.lost)} of {c.sent} packets lost" for c in counts if c.lost]
        if wrong:
            raise FailedError("\n  ".join(wrong))


def _established(status: Any) -> int:  # noqa: ANN401 - parsed JSON
    return sum(peer["state"] == "established" for peer in status["peers"])


def _on_bgp(lab: AzureLab, status: Any) -> bool:  # noqa: ANN401 - parsed JSON
    """Both peers, every block carried by BGP alone, every learned block proved."""
    others = sum(len(plan.blocks) for plan in lab.plan if plan.name != status["node"]["name"])
    proved = sum(each["verified"]["state"] == "delivered" for each in status["routes"])
    return (
        status["ready"]
        and status["mode"] == status["fallback"]["state"] == "bgp"
        and _established(status) == len(INSTANCES)
        and not status["fallback"]["routes"]
        and all(each["state"] == "announced" for each in status["blocks"])
        and proved == others
    )


def _on_the_table(lab: AzureLab, status: Any) -> bool:  # noqa: ANN401 - parsed JSON
    """Each own block's route is in the table and in effect, and the node says so."""
    own = {b for plan in lab.plan if plan.name == status["node"]["name"] for b in plan.blocks}
    there = {each["prefix"] for each in status["fallback"]["routes"] if each["reason"] == "in effect"}
    return bool(status["mode"] == "fallback" and own == there)


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask ``condition`` until it is true or the time is over; which of the two it was."""
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return done


def play(lab: AzureLab, console: Console) -> bool:
    """Show the lab; was everything as promised. Logs of what went wrong are shown."""
    try:
        Show(lab, console).play()
    except (FailedError, ExpiredError) as error:
        console.print(f"{BAD} {escape(str(error))}", highlight=False, soft_wrap=True)
        for log in sorted(lab.folder.glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-8:]
            if tail:
                console.print(f"[bold]{log}[/]")
                console.print("\n".join(f"  {line}" for line in tail), markup=False, highlight=False, soft_wrap=True)
        return False
    return True


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _time(milliseconds: float | None, same: bool) -> str:
    if same:
        return "[dim]·[/]"
    return BAD if milliseconds is None else f"{milliseconds:.2f}"
