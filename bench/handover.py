"""The hand-over between BGP and the route table on the Azure twin: packets lost at 1,000 a second, by what happens.

``python -m bench.handover`` inside ``lab/sandbox`` prints a table in Markdown. The bound of a row is what the design
allows: nothing where it is planned; where an instance dies or falls silent, the time until that shows (hold time),
``fallback.after`` and the time of one write.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from lab.azure import AzureLab
from lab.netns import Network, wait_for
from lab.topology import Node, StatusError, short_folder
from lab.traffic import Traffic

RATE = 1000
HOLD = 6
PAIRS = (("pod-a1", "pod-b1"), ("pod-b1", "pod-c1"), ("pod-c1", "pod-a2"))


@dataclass(frozen=True, slots=True)
class Row:
    """One disaster. ``bound``: seconds of silence that it may cost."""

    what: str
    bound: float
    do: Callable[[AzureLab], None]
    mode: str = "standby"


def _on_bgp(node: Node) -> bool:
    try:
        status = node.status()
    except StatusError:
        return False
    return bool(status["ready"] and status["fallback"]["state"] == "bgp" and not status["fallback"]["routes"])


def _settled(lab: AzureLab) -> None:
    wait_for("every node is on BGP", lambda: all(map(_on_bgp, lab.nodes.values())), 90, 0.1)


def _in_table(lab: AzureLab) -> None:
    wait_for("every block is in the table", lambda: lab.twin.table() == lab.blocks(), 90, 0.1)


def _instances(lab: AzureLab, state: str) -> None:
    for number in (0, 1):
        lab.twin.twin("POST", f"instances/{number}", {"state": state})


def _drain(lab: AzureLab) -> None:
    node = lab.nodes["node-b"]
    for word in ("drain", "undrain"):
        done = node.ask(word, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
    _settled(lab)


def _speaker(lab: AzureLab) -> None:
    node = lab.nodes["node-b"]
    if node.speaker is None:
        raise RuntimeError("no speaker was started")
    node.speaker.terminate()
    node.speaker.wait(60)
    node.start_speaker()
    _settled(lab)


def _one_and_back(lab: AzureLab) -> None:
    lab.twin.twin("POST", "instances/1", {"state": "down"})
    _in_table(lab)
    lab.twin.twin("POST", "instances/1", {"state": "up"})
    _settled(lab)


def _both(state: str) -> Callable[[AzureLab], None]:
    def do(lab: AzureLab) -> None:
        _instances(lab, state)
        _in_table(lab)
        _instances(lab, "up")
        _settled(lab)

    return do


def _both_always(state: str) -> Callable[[AzureLab], None]:
    def do(lab: AzureLab) -> None:
        _instances(lab, state)

        def gone() -> bool:
            peers = [peer for node in lab.nodes.values() for peer in node.status()["peers"]]
            return all(peer["state"] != "established" for peer in peers)

        wait_for("no peer is left", gone, 90, 0.1)

    return do


ROWS = (
    Row("planned: drain and undrain", 0.0, _drain),
    Row("planned: the speaker is replaced", 0.0, _speaker),
    Row("one instance stops and comes back", 0.0, _one_and_back),
    Row("both instances stop", 2.0, _both("down")),
    Row("both instances fall silent", HOLD + 2.0, _both("silent")),
    Row("both instances stop, `fallback.mode: always`", 0.0, _both_always("down"), "always"),
    Row("both instances fall silent, `fallback.mode: always`", 0.0, _both_always("silent"), "always"),
)


def measure(row: Row) -> str:
    """A line of the table."""
    network = Network()
    folder = short_folder(network.tag)
    fallback = {"mode": row.mode, "after": "1s", "revert_after": "2s"}
    try:
        with network, AzureLab(network, folder, port=9480, fallback=fallback, bgp={"hold_time": f"{HOLD}s"}) as lab:
            lab.start()
            (_settled if row.mode == "standby" else _in_table)(lab)
            pods = lab.pods()
            traffic = Traffic(RATE)
            for source, target in PAIRS:
                traffic.stream(f"{source} to {target}", pods[source][0], *pods[target])
            with traffic:
                start = time.monotonic()
                row.do(lab)
                traffic.run_for(1.0)
                took = time.monotonic() - start
                counts = traffic.finish()
            lost, sent = sum(len(c.lost) for c in counts), sum(c.sent for c in counts)
            silence = max(c.silence for c in counts) if lost else 0.0
            return f"| {row.what} | {lost:,} of {sent:,} | {silence:.1f} | {row.bound:g} | {took:.0f} |"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Measure every row, or those whose text holds the first argument."""
    print("| what happens | packets lost | longest silence, s | bound, s | whole story, s |\n|---|---|---|---|---|")
    for row in ROWS:
        if len(sys.argv) < 2 or sys.argv[1] in row.what:
            print(measure(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
