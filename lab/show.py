"""``make lab``: build the lab, prove that it works, and say it so that a newcomer can follow."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from lab import proofs
from lab.netns import ExpiredError
from lab.topology import ROUTE_SERVERS, Lab

GOOD: Final = "[green]✓[/]"
BAD: Final = "[red]✗[/]"


class FailedError(Exception):
    """The lab did not show what it promises; the message says what was seen instead."""


class Show:
    """The lab as a story on a terminal; each chapter raises :class:`FailedError` when its promise does not hold."""

    def __init__(self, lab: Lab, console: Console) -> None:
        self._lab = lab
        self._console = console

    def play(self) -> None:
        """Everything from the start of the processes to the proofs."""
        self._console.print(self._plan())
        with self._stage("start 2 route servers (BIRD), 3 speakers (ExaBGP) and 3 agents"):
            self._lab.start()
        with self._stage("wait until every block is announced, learned and proved") as status:
            self._converge(status)
        self._console.print(self._held())
        with self._stage("every pod pings every other pod"):
            pings = proofs.ping_all(self._lab)
        self._console.print(self._pings(pings))
        with self._stage("every node asks the network who gets a packet for each block"):
            answers = list(proofs.probe_all(self._lab))
        self._console.print(self._answers(answers))
        with self._stage("kill node-a's agent (SIGKILL) under traffic, and start it again"):
            survival = proofs.survive(self._lab, self._lab.nodes["node-a"], signal.SIGKILL)
        self._console.print(self._survival(survival))
        self._judge(pings, answers, survival)

    @contextmanager
    def _stage(self, what: str) -> Iterator[Status]:
        start = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"… {what}")
        with self._console.status(what) as status:
            yield status
        self._console.print(f"{GOOD} {what} [dim]({time.monotonic() - start:.1f} s)[/]", highlight=False)

    def _converge(self, status: Status) -> None:
        missing = self._lab.missing()

        def converged() -> bool:
            nonlocal missing
            missing = self._lab.missing()
            if missing:
                more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
                status.update(f"wait for: {escape(missing[0])}{more}")
            return not missing or bool(self._lab.ended())

        wait(converged, 60.0)
        if ended := self._lab.ended():
            raise FailedError("\n  ".join(ended))
        if missing:
            raise FailedError("after 60 s still:\n  " + "\n  ".join(missing))

    # --- tables ------------------------------------------------------------------------------------------------------
    def _plan(self) -> Table:
        table = _table("The lab: three nodes of one cluster in two subnets", "node", "address", "its blocks", "pods")
        for node in self._lab.nodes.values():
            pods = "\n".join(f"{name} {address}" for name, address in node.plan.pods.items())
            table.add_row(node.name, node.plan.address, "\n".join(node.plan.blocks), pods)
        return table

    def _held(self) -> Table:
        table = _table("What the network knows: blocks that the route servers hold", "route server", "address",
                       *self._lab.nodes)  # fmt: skip
        for name, bird in self._lab.fabric.birds.items():
            table.add_row(name, ROUTE_SERVERS[name], *("\n".join(sorted(bird.prefixes(n))) for n in self._lab.nodes))
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

    def _survival(self, seen: proofs.Survival) -> Table:
        table = _table(f"{seen.node} without its agent for {seen.away:.1f} s: what the others saw", "", "seen", "")
        rows = (
            (f"packets lost, of {seen.sent} sent to and from its pods", seen.lost),
            ("BGP UPDATEs at the route servers", seen.updates),
            ("kernel route events on all nodes", len(seen.events)),
        )
        for what, number in rows:
            table.add_row(what, str(number), BAD if number else GOOD)
        return table

    def _judge(self, pings: list[proofs.Ping], answers: list[proofs.Probe], survival: proofs.Survival) -> None:
        wrong = [f"{p.source} cannot ping {p.target}" for p in pings if p.milliseconds is None]
        wrong += [f"{a.asked_by}: {a.block} is {a.state} ({a.reason})" for a in answers if not a.right]
        if not survival.unnoticed:
            wrong += [f"the agent's end was noticed: {survival.lost} packets lost, {survival.updates} UPDATEs"]
            wrong += survival.events
        if wrong:
            raise FailedError("\n  ".join(wrong))


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask ``condition`` until it is true or the time is over; which of the two it was."""
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return done


def play(lab: Lab, console: Console) -> bool:
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
