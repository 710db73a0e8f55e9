"""Measure everything; ``python -m bench [--quick]``, inside ``lab/sandbox``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import announcing, handover, learning, living, raw
from bench.machine import machine
from bench.page import HAND_OVER, STACKS, hand_over, ratios, spent, table, write
from bench.results import Results
from bench.stacks import ExaBgp, Ours, Stack, available
from lab.netns import ExpiredError

RESULTS: Final = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. ``tables``: prefixes -> runs; ``away`` and ``idle`` in seconds."""

    tables: dict[int, int]
    samples: int
    turns: int
    announced: int
    repeats: int
    idle: float
    away: float
    patience: float
    kills: int
    flushed: int
    disasters: tuple[handover.Row, ...]


FULL: Final = Plan(
    {1000: 3, 3000: 1, 10_000: 5, 30_000: 1, 100_000: 5}, 200, 1, 2, 3, 60.0, 62.0, 70.0, 2, 30, handover.ROWS
)
QUICK: Final = Plan(
    {1000: 1, 10_000: 1, 100_000: 1},
    40,
    1,
    1,
    2,
    10.0,
    5.0,
    20.0,
    1,
    10,
    tuple(row for row in handover.ROWS if row.quick),
)


class Bench:
    """One run of everything. What fails is said and has no value; the rest goes on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results = Results()
        self.failures: list[str] = []
        self.stacks: list[type[Stack]] = [Ours, *available(), ExaBgp]

    def _try(self, what: str, measure: Callable[[], None]) -> None:
        started = time.monotonic()
        try:
            measure()
        except (ExpiredError, RuntimeError, OSError) as error:
            self.failures.append(f"{what}: {error}")
            print(f"  {what}: FAILED, {error}", flush=True)
        else:
            print(f"  {what} ({time.monotonic() - started:.0f} s)", flush=True)

    def run(self) -> None:
        """Everything, the most patient at the end."""
        for size, runs in self.plan.tables.items():
            for run in range(runs):
                for stack in self.stacks:
                    self._try(f"{stack.name} learns {size:,}", partial(self._table, stack, size, run))
        for turn in range(self.plan.turns):
            for stack in self.stacks:
                self._try(f"{stack.name} learns one by one", partial(self._singles, stack, turn))
                self._try(f"{stack.name} announces one by one", partial(self._events, stack, turn))
        for run in range(self.plan.announced):
            for stack in (Ours, ExaBgp):
                self._try(f"{stack.name} announces 10,000", partial(self._many, stack, run))
        for run in range(self.plan.repeats):
            self._try("10,000 routes written", partial(self._write, run))
        for stack in [s for s in self.stacks if s is not ExaBgp]:
            self._try(f"{stack.name}: a route is deleted", partial(self._flushed, stack))
        self._try("the agent is killed under traffic", self._killed)
        self.hand_over()
        self._try("idle, and routers that are away", self._patient)

    def hand_over(self) -> None:
        """Every disaster of the hand-over, each in a lab of its own."""
        for row in self.plan.disasters:
            self._try(row.what, partial(self._disaster, row))

    def _disaster(self, row: handover.Row) -> None:
        measured = handover.measure(row)
        for name, value, unit in (
            ("sent", measured.sent, "packets"), ("lost", measured.lost, "packets"), ("silence", measured.silence, "s"),
            ("bound", row.bound, "s"), ("took", measured.took, "s"),
        ):  # fmt: skip
            self.results.add(f"{HAND_OVER} {name}", row.what, value, unit)
        if measured.silence > row.bound:
            self.failures.append(f"{row.what}: {measured.silence:.1f} s of silence, {row.bound:g} s were allowed")

    def _table(self, stack: type[Stack], size: int, run: int) -> None:
        measured = learning.table(stack, size)
        add = self.results.add
        add("learn", stack.name, measured.seconds, "s", size=size, run=run)
        add("memory", stack.name, sum(measured.memory.values()), "MiB", size=size, run=run)
        for role, seconds in measured.cpu.items():
            add(f"cpu {_kind(role)}", stack.name, seconds, "s", size=size, run=run)
        if stack is Ours:
            for role in ("agent", "speaker"):
                add(f"memory {role}", stack.name, measured.memory[role], "MiB", size=size, run=run)
            rest = sum(value for role, value in measured.memory.items() if role not in ("agent", "speaker"))
            add("memory exabgp", stack.name, rest, "MiB", size=size, run=run)

    def _singles(self, stack: type[Stack], turn: int) -> None:
        for value in learning.one_by_one(stack, self.plan.samples):
            self.results.add("learn one", stack.name, value, "s", run=turn)

    def _events(self, stack: type[Stack], turn: int) -> None:
        for value in announcing.one_by_one(stack, self.plan.samples):
            self.results.add("announce one", stack.name, value, "s", run=turn)

    def _many(self, stack: type[Stack], run: int) -> None:
        self.results.add("announce", stack.name, announcing.many(stack, 10_000), "s", size=10_000, run=run)

    def _write(self, run: int) -> None:
        self.results.add("write", Ours.name, raw.batched(10_000), "s", size=10_000, run=run)
        if run == 0:
            self.results.add("write", "pyroute2", raw.singly(10_000), "s", size=10_000)

    def _flushed(self, stack: type[Stack]) -> None:
        for run, value in enumerate(living.flushed(stack, self.plan.flushed, 10.0)):
            if value is None:
                raise RuntimeError("not back within 10 s")
            self.results.add("flushed", stack.name, value, "s", run=run)

    def _killed(self) -> None:
        sent, lost = living.killed(self.plan.kills)
        self.results.add("packets sent", Ours.name, sent, "packets")
        self.results.add("packets lost", Ours.name, lost, "packets")

    def _patient(self) -> None:
        """What takes a minute or more and no CPU, all at the same time."""
        plan = self.plan
        with ProcessPoolExecutor(max_workers=3 * len(self.stacks)) as pool:
            idle = {s: pool.submit(living.idle, s, plan.idle) for s in self.stacks}
            away: dict[tuple[type[Stack], bool], Future[float | None]] = {
                (s, knocks): pool.submit(living.away, s, plan.away, knocks=knocks, patience=plan.patience)
                for s in self.stacks
                for knocks in (False, True)
                if not (knocks and s is ExaBgp)
            }
            for stack, cpu in idle.items():
                self._try(f"{stack.name} idle", partial(self._idle, stack, cpu))
            for (stack, knocks), back in away.items():
                how = "back, knocking" if knocks else "back"
                self._try(f"{stack.name}: {how}", partial(self._back, stack, how, back))

    def _idle(self, stack: type[Stack], cpu: Future[dict[str, float]]) -> None:
        for role, seconds in cpu.result().items():
            self.results.add(f"idle {_kind(role)}", stack.name, seconds, "s")
        self.results.add("idle", stack.name, sum(cpu.result().values()), "s")

    def _back(self, stack: type[Stack], how: str, back: Future[float | None]) -> None:
        seconds = back.result()
        if seconds is None:
            raise RuntimeError(f"no session within {self.plan.patience:g} s")
        self.results.add(how, stack.name, seconds, "s")


def _kind(role: str) -> str:
    return "ExaBGP" if role.lower().startswith("exabgp") else role


def _page() -> None:
    write(Results.load(RESULTS / "results.csv"), json.loads((RESULTS / "machine.json").read_text()))


def _hand_over_alone() -> int:
    bench = Bench(FULL)
    bench.hand_over()
    others = Results.load(RESULTS / "results.csv").without(HAND_OVER)
    Results([*others.rows, *bench.results.rows]).save(RESULTS / "results.csv")
    print("", hand_over(bench.results), *(f"failed: {failure}" for failure in bench.failures), "", sep="\n")
    _page()
    return 0


def main() -> int:
    """Run, save, print; a full run writes the page too."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes, one run of each; the page stays as it is")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page from the saved results")
    parser.add_argument("--hand-over", action="store_true", help="measure that part anew; the other results stay")
    options = parser.parse_args()
    if options.hand_over:
        return _hand_over_alone()
    if options.page:
        _page()
        return 0
    found = machine()
    missing = set(STACKS) - {stack.name for stack in Bench(QUICK).stacks}
    if missing:
        print(f"not installed, so not measured: {', '.join(sorted(missing))}")
    bench = Bench(QUICK if options.quick else FULL)
    bench.run()
    folder = RESULTS / "quick" if options.quick else RESULTS
    bench.results.save(folder / "results.csv")
    (folder / "machine.json").write_text(json.dumps(found, indent=2) + "\n")
    print("", table(bench.results), "", ratios(bench.results), "", spent(bench.results), "", sep="\n")
    print(hand_over(bench.results), "", sep="\n")
    for failure in bench.failures:
        print(f"failed: {failure}")
    if not options.quick:
        write(Results.load(folder / "results.csv"), found)  # as the file has it: rounded
    return 0


if __name__ == "__main__":
    sys.exit(main())
