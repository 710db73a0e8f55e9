"""The hand-over between BGP and the route table on the Azure twin: packets lost at 1,000 a second, by what happens.

The bound of a row is what the design allows: nothing where it is planned or where the table carries already; else the
time until a loss shows (at once where the kernel or BIRD closes the connection, the hold time where nothing is heard),
``fallback.after`` and the time of one write.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from lab.azure import INSTANCES, AzureLab
from lab.hand_over import on_the_table, settled_on_bgp, traffic, until
from lab.netns import Network
from lab.topology import short_folder

RATE: Final = 1000  # packets a second in each of three streams
HOLD: Final = 6  # seconds: `bgp.hold_time`
AFTER: Final = 1  # seconds: `fallback.after`
WRITE: Final = 1  # seconds that a write to the twin's route table may take, with the answer


@dataclass(frozen=True, slots=True)
class Row:
    """One disaster. ``bound``: seconds of silence that it may cost; ``quick``: part of a quick run."""

    what: str
    bound: float
    do: Callable[[AzureLab], None]
    mode: str = "standby"
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """Packets sent and lost, the longest ``silence`` and how long it all ``took``, in seconds."""

    sent: int
    lost: int
    silence: float
    took: float


def _order(lab: AzureLab, state: str, *numbers: int) -> None:
    for number in numbers:
        lab.twin.twin("POST", f"instances/{number}", {"state": state})


def _drain(lab: AzureLab) -> None:
    for word in ("drain", "undrain"):
        done = lab.nodes["node-b"].ask(word, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
    settled_on_bgp(lab)


def _speaker(lab: AzureLab) -> None:
    node = lab.nodes["node-b"]
    if node.speaker is None:
        raise RuntimeError("no speaker was started")
    node.speaker.terminate()
    node.speaker.wait(60)
    node.start_speaker()
    settled_on_bgp(lab)


def _away(state: str, *numbers: int) -> Callable[[AzureLab], None]:
    """These instances go, the table takes over, they come back and BGP takes over again."""

    def do(lab: AzureLab) -> None:
        _order(lab, state, *numbers)
        on_the_table(lab)
        _order(lab, "up", *numbers)
        settled_on_bgp(lab)

    return do


def _gone(state: str, *numbers: int) -> Callable[[AzureLab], None]:
    """These instances go, and nothing follows from it."""

    def do(lab: AzureLab) -> None:
        _order(lab, state, *numbers)
        until(lab, "no peer is left", lambda _, s: all(p["state"] != "established" for p in s["peers"]))

    return do


BOTH: Final = tuple(range(len(INSTANCES)))
ROWS: Final = (
    Row("planned: drain and undrain", 0.0, _drain),
    Row("planned: the speaker is replaced", 0.0, _speaker),
    Row("one instance stops and comes back", 0.0, _away("down", 1)),
    Row("both instances stop", AFTER + WRITE, _away("down", *BOTH)),
    Row("both instances are killed", AFTER + WRITE, _away("killed", *BOTH), quick=True),
    Row("both instances fall silent", HOLD + AFTER + WRITE, _away("silent", *BOTH)),
    Row("both instances stop, `fallback.mode: always`", 0.0, _gone("down", *BOTH), "always"),
    Row("both instances are killed, `fallback.mode: always`", 0.0, _gone("killed", *BOTH), "always", quick=True),
    Row("both instances fall silent, `fallback.mode: always`", 0.0, _gone("silent", *BOTH), "always"),
)


def measure(row: Row) -> Measured:
    """In a lab of its own; raises :class:`RuntimeError` or :class:`lab.netns.ExpiredError`."""
    network = Network()
    folder = short_folder(network.tag)
    fallback = {"mode": row.mode, "after": f"{AFTER}s", "revert_after": "2s"}
    try:
        with network, AzureLab(network, folder, port=9480, fallback=fallback, bgp={"hold_time": f"{HOLD}s"}) as lab:
            lab.start()
            (settled_on_bgp if row.mode == "standby" else on_the_table)(lab)
            until(lab, "both peers", lambda _, s: [p["state"] for p in s["peers"]] == ["established"] * 2)
            with traffic(lab, RATE) as flow:
                start = monotonic()
                row.do(lab)
                flow.run_for(1.0)
                took = monotonic() - start
                counts = flow.finish()
    except (AssertionError, subprocess.SubprocessError) as error:
        raise RuntimeError(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lost = sum(len(each.lost) for each in counts)
    silence = max(each.silence for each in counts) if lost else 0.0
    return Measured(sum(each.sent for each in counts), lost, silence, took)
