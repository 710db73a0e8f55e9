"""A peer that says what no router would, beside one that is a router: BIRD's session, its routes and the agent stay.

For each attack: the program runs on in the same processes, BIRD's session has not moved, the kernel holds what policy
allows and nothing else, memory is bounded, and what was refused stands in /status with a reason.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lab.neighbours.bird import Bird
from lab.neighbours.plan import NODE, NODE6, NODE_ASN, ROUTER
from lab.netns import ExpiredError, wait_for
from tests.interop import hostile as bgp
from tests.interop.hostile import Hostile
from tests.interop.neighbour_rig import THEIRS, Rig, rig_with

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120), pytest.mark.xdist_group("hostile")]

FOE, FOE_ASN = "10.99.1.3", 65002
BAD, PROOF = "192.168.50.0/24", "192.168.60.0/24"
MIB: Final = 1 << 20
GOOD: Final = bgp.origin() + bgp.path(FOE_ASN) + bgp.next_hop(FOE)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Rig, Hostile]]:
    with rig_with(Bird) as rig:
        rig.neighbour.inside.ip(f"address add {FOE}/24 dev eth0")
        rig.others = [{"address": FOE, "asn": FOE_ASN}]
        foe = Hostile(FOE, FOE_ASN, rig.neighbour.inside)
        with foe.listening():
            rig.set_up()
            wait_for("the hostile session is up", lambda: foe.established, 20)
            yield rig, foe


@pytest.fixture
def rig(running: tuple[Rig, Hostile]) -> Rig:
    return running[0]


@pytest.fixture
def foe(running: tuple[Rig, Hostile]) -> Iterator[Hostile]:
    """In its right mind, with a session and nothing announced; the bystanders are looked at when the test is over."""
    rig, made = running
    made.open_with, made.keepalives = None, True
    made.say()
    with bystanders(rig):
        yield made
        made.open_with, made.keepalives = None, True
        made.hang_up()
        wait_for("the hostile peer's session is up again", lambda: rig.peer(FOE).get("state") == "established", 30)
        made.say(bgp.good_end())
        wait_for("nothing of it is left", lambda: rig.kernel() == {THEIRS[0]}, 30)


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def processes(rig: Rig) -> dict[str, int]:
    assert rig.node.agent is not None
    assert rig.node.speaker is not None
    return {"agent": rig.node.agent.pid, "speaker": rig.node.speaker.pid}


@contextlib.contextmanager
def bystanders(rig: Rig) -> Iterator[None]:
    """What an attack must leave as it is."""
    before = rig.peer(ROUTER)
    logged = rig.node.log("run").stat().st_size
    memory = {name: rss(pid) for name, pid in processes(rig).items()}
    yield
    after = rig.peer(ROUTER)
    assert (after["state"], after["since"], after["flaps"]) == ("established", before["since"], before["flaps"])
    assert rig.holds(NODE)
    assert rig.holds(NODE6)
    assert THEIRS[0] in rig.kernel()
    assert rig.kernel(NODE6) == {THEIRS[1]}
    for name, pid in processes(rig).items():
        assert rss(pid) < memory[name] + 48 * MIB, name
    news = rig.node.log("run").read_bytes()[logged:]
    ours = [line for line in news.splitlines() if b" exabgp " not in line]  # ExaBGP's own words are passed on
    assert not [line for line in ours if b"Traceback" in line]
    assert len(news) < 4 * MIB


def heard_everything(rig: Rig, foe: Hostile) -> None:
    """A good route that comes after the bad ones is in the kernel: all before it was read, and did not stop it.

    Said again when the session ended under it.
    """
    for _ in range(10):
        foe.say(foe.good(PROOF))
        with contextlib.suppress(ExpiredError):
            wait_for("the good route is in the kernel", lambda: rig.route(PROOF).get("state") == "installed", 2)
            return
    raise ExpiredError("after 10 tries the good route is still not in the kernel")


ATTRIBUTES: Final = {
    "no ORIGIN": (bgp.path(FOE_ASN) + bgp.next_hop(FOE), "no ORIGIN"),
    "ORIGIN 9": (bgp.origin(9) + bgp.path(FOE_ASN) + bgp.next_hop(FOE), "ORIGIN"),
    "no AS_PATH": (bgp.origin() + bgp.next_hop(FOE), "AS_PATH"),
    "an empty AS_PATH": (bgp.origin() + bgp.path() + bgp.next_hop(FOE), "AS_PATH"),
    "AS 0": (bgp.origin() + bgp.path(FOE_ASN, 0) + bgp.next_hop(FOE), "AS 0"),
    "our own AS again and again": (bgp.origin() + bgp.path(FOE_ASN, *[NODE_ASN] * 9) + bgp.next_hop(FOE), "our own AS"),
    "no NEXT_HOP": (bgp.origin() + bgp.path(FOE_ASN), "no next hop"),
    "our own address as next hop": (bgp.origin() + bgp.path(FOE_ASN) + bgp.next_hop(NODE), "own address"),
    "next hop 0.0.0.0": (bgp.origin() + bgp.path(FOE_ASN) + bgp.next_hop("0.0.0.0"), "next hop"),
    "next hop loopback": (bgp.origin() + bgp.path(FOE_ASN) + bgp.next_hop("127.0.0.1"), "own address"),
    "next hop multicast": (bgp.origin() + bgp.path(FOE_ASN) + bgp.next_hop("224.0.0.5"), "multicast"),
    "next hop broadcast": (bgp.origin() + bgp.path(FOE_ASN) + bgp.next_hop("255.255.255.255"), "reserved"),
    "next hop link-local": (bgp.origin() + bgp.path(FOE_ASN) + bgp.next_hop("169.254.1.1"), "link-local"),
    "a community of 3 bytes": (GOOD + bgp.attribute(8, b"abc", bgp.OPTIONAL), "malformed"),
}


@pytest.mark.parametrize("lie", ATTRIBUTES)
def test_route_with_unusable_attributes_is_refused_with_its_reason(rig: Rig, foe: Hostile, lie: str) -> None:
    attributes, words = ATTRIBUTES[lie]
    flaps = rig.peer(FOE)["flaps"]
    foe.say(bgp.update(attributes, bgp.nlri(BAD)))
    heard_everything(rig, foe)
    if words != "malformed":  # ExaBGP turns that one into a withdrawal (RFC 7606)
        assert rig.route(BAD)["state"] == "refused"
        assert words in rig.route(BAD)["reason"]
    assert BAD not in rig.kernel()
    assert rig.peer(FOE)["flaps"] == flaps, "RFC 7606: one bad route does not cost the session"


HARMLESS: Final = {
    "an AGGREGATOR of 3 bytes": bgp.attribute(7, b"abc", bgp.OPTIONAL),
    "an ATOMIC_AGGREGATE of 4 bytes": bgp.attribute(6, b"abcd", bgp.WELL_KNOWN),
    "an unknown optional attribute": bgp.attribute(199, b"\xff" * 40, bgp.OPTIONAL),
}


@pytest.mark.parametrize("lie", HARMLESS)
def test_broken_attribute_that_decides_nothing_is_discarded_and_the_route_stays(
    rig: Rig, foe: Hostile, lie: str
) -> None:
    """RFC 7606 sections 7.6 and 7.7: attribute discard."""
    flaps = rig.peer(FOE)["flaps"]
    foe.say(bgp.update(GOOD + HARMLESS[lie], bgp.nlri(BAD)))
    wait_for("the route is in the kernel", lambda: BAD in rig.kernel(), 10)
    assert rig.peer(FOE)["flaps"] == flaps


PREFIXES: Final = {
    "0.0.0.0/0": "default route", "0.0.0.0/8": "outside the pools", "127.0.0.0/8": "outside the pools",
    "224.0.0.0/4": "outside the pools", "240.0.0.0/4": "outside the pools", "192.168.1.0/26": "own block",
    "192.168.1.0/27": "own block", "10.99.1.0/24": "outside the pools", "10.99.1.1/32": "outside the pools",
    "10.99.1.2/32": "outside the pools", "203.0.113.0/24": "outside the pools", "192.0.0.0/8": "outside the pools",
}  # fmt: skip


def test_hostile_prefixes_are_all_refused_and_the_good_one_among_them_is_not(rig: Rig, foe: Hostile) -> None:
    foe.say(foe.good(*PREFIXES, PROOF))
    wait_for("the good one is in", lambda: PROOF in rig.kernel())
    assert {prefix: rig.route(prefix).get("state") for prefix in PREFIXES} == dict.fromkeys(PREFIXES, "refused")
    assert {p: words in rig.route(p)["reason"] for p, words in PREFIXES.items()} == dict.fromkeys(PREFIXES, True)
    assert rig.kernel() == {THEIRS[0], PROOF}


def test_host_bits_mean_nothing(rig: Rig, foe: Hostile) -> None:
    foe.say(bgp.update(GOOD, b"\x14" + bytes((192, 168, 63))))  # 192.168.63.0/20
    wait_for("the network's address is in the kernel", lambda: "192.168.48.0/20" in rig.kernel())
    foe.say(bgp.withdrawal("192.168.48.0/20"))
    wait_for("and gone when it is withdrawn by its right name", lambda: "192.168.48.0/20" not in rig.kernel())


def test_prefix_withdrawn_and_announced_in_one_update_is_announced(rig: Rig, foe: Hostile) -> None:
    foe.say(bgp.update(GOOD, bgp.nlri(BAD), bgp.nlri(BAD)))
    wait_for("the announcement holds (RFC 4271 section 4.3)", lambda: BAD in rig.kernel())


#: What ends a session, and must end that one only.
FATAL: Final = {
    "a length of 33": bgp.update(GOOD, b"\x21\xc0\xa8\x32\x00\x00"),
    "a prefix cut off": bgp.update(GOOD, b"\x18\xc0\xa8"),
    "an attribute longer than the message": bgp.update(GOOD + b"\x40\x05\xff\x00", bgp.nlri(BAD)),
    "a withdrawn length beyond the end": bgp.message(bgp.UPDATE, b"\xff\xff" + b"\0" * 9),
    "an unknown type": bgp.message(77, b"hello"),
    "a length of 3": bgp.message(bgp.UPDATE, length=3),
    "a length of 65535": bgp.message(bgp.UPDATE, b"\0" * 65516),
    "a bad marker": bgp.message(bgp.KEEPALIVE, marker=b"\0" * 16),
    "a second OPEN": bgp.opening(FOE_ASN),
    "garbage": bytes(range(256)) * 16,
    "a segment longer than AS_PATH": bgp.update(
        bgp.origin() + bgp.attribute(2, b"\x02\xff\0\0") + bgp.next_hop(FOE), bgp.nlri(BAD)
    ),
    "an unknown segment in AS_PATH": bgp.update(
        bgp.origin() + bgp.attribute(2, b"\x09\x01\0\0\xfd\xea") + bgp.next_hop(FOE), bgp.nlri(BAD)
    ),
    "a NEXT_HOP of 5 bytes": bgp.update(
        bgp.origin() + bgp.path(FOE_ASN) + bgp.attribute(3, b"\x0a\x63\x01\x03\0"), bgp.nlri(BAD)
    ),
    "a MED of 3 bytes": bgp.update(GOOD + bgp.attribute(4, b"\0\0\1", 0x80), bgp.nlri(BAD)),
    "a notification for each taste": b"".join(
        bgp.message(bgp.NOTIFICATION, struct.pack("!BB", code, sub) + b"\xff\xfe" * 40)
        for code in range(8) for sub in range(12)
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", FATAL)
def test_message_that_breaks_a_session_breaks_no_other(rig: Rig, foe: Hostile, attack: str) -> None:
    foe.say(FATAL[attack])
    wait_for("the session is up again, or never went",
             lambda: rig.peer(FOE).get("state") == "established" and foe.established, 30)  # fmt: skip
    heard_everything(rig, foe)
    assert BAD not in rig.kernel()


@pytest.mark.parametrize(
    "frame",
    [
        bgp.message(bgp.UPDATE, length=3),
        bgp.message(bgp.UPDATE, length=65535),
        bgp.message(bgp.KEEPALIVE, marker=b"\0" * 16),
        bgp.message(77),
    ],
    ids=["a length of 3", "a length of 65535", "a bad marker", "an unknown type"],
)
def test_session_that_a_broken_frame_ends_gets_its_notification(foe: Hostile, frame: bytes) -> None:
    before = len(foe.refused)
    foe.say(frame)
    wait_for("Message Header Error (RFC 4271 section 6.1)",
             lambda: [code for code, _ in foe.refused[before:]] == [1], 20)  # fmt: skip


def test_burst_of_changes_of_one_prefix_ends_with_the_last(rig: Rig, foe: Hostile) -> None:
    hops = [f"10.99.1.{100 + n}" for n in range(10)]
    for _ in range(5):
        meds = [bgp.attribute(4, struct.pack("!I", n), 0x80) for n in range(len(hops))]
        changes = [foe.good(BAD, hop=hop, more=med) for hop, med in zip(hops, meds, strict=True)]
        foe.say(b"".join(changes))
        wait_for("the last one is in the kernel", lambda: rig.routes().get(BAD) == hops[-1])
        foe.say(b"".join([*changes, bgp.withdrawal(BAD)]))
        wait_for("a withdrawal at the end wins", lambda: BAD not in rig.kernel())


def test_more_than_200_kb_of_prefixes_are_cut_off_at_the_limit(rig: Rig, foe: Hostile) -> None:
    many = [f"10.{a}.{b}.0/24" for a in range(230) for b in range(250)]  # outside of the pools, 4 bytes each
    inside = [f"192.168.{128 + n // 64}.{n % 64 * 4}/30" for n in range(5000)]
    every = [*many, *inside]
    foe.say(*(foe.good(*every[at : at + 800]) for at in range(0, len(every), 800)))
    wait_for("the surplus is named", lambda: "max_prefixes" in rig.peer(FOE)["reason"], 30)
    assert rig.peer(FOE)["state"] == "established"
    assert len(rig.kernel()) <= 4001
    assert rig.node.get("/status")[0] == 200


def test_updates_as_large_as_they_may_be(rig: Rig, foe: Hostile) -> None:
    communities = bgp.attribute(8, b"".join(struct.pack("!HH", n, n) for n in range(900)), bgp.OPTIONAL)
    long_path = bgp.origin() + b"".join((
        bgp.attribute(2, b"".join(b"\x02\xff" + struct.pack("!I", FOE_ASN) * 255 for _ in range(3))),
        bgp.next_hop(FOE),
    ))  # fmt: skip
    foe.say(*(bgp.update(GOOD + communities, bgp.nlri(f"192.168.{n}.0/24")) for n in range(40, 60)))
    foe.say(bgp.update(long_path, bgp.nlri("192.168.61.0/24")))
    wait_for("all are in the kernel", lambda: len(rig.kernel()) == 22, 20)


def test_refreshes_that_begin_and_never_end_take_nothing_away(rig: Rig, foe: Hostile) -> None:
    heard_everything(rig, foe)
    begin, end = bgp.refresh(bgp.REFRESH_BEGIN), bgp.refresh(bgp.REFRESH_END)
    foe.say(begin * 5000)
    foe.say(foe.good(BAD))
    wait_for("it goes on listening", lambda: BAD in rig.kernel(), 20)
    assert PROOF in rig.kernel()
    foe.say(begin, foe.good(BAD), end)
    wait_for("an end sweeps what was not told again", lambda: PROOF not in rig.kernel())
    assert BAD in rig.kernel()


def test_thousands_of_refresh_requests_are_borne(rig: Rig, foe: Hostile) -> None:
    foe.say(bgp.refresh(bgp.REFRESH_ASKED) * 2000)
    heard_everything(rig, foe)


def test_peer_that_flaps_disturbs_nobody_and_is_counted(rig: Rig, foe: Hostile) -> None:
    flaps = rig.peer(FOE)["flaps"]
    deadline = time.monotonic() + 25
    done = 0
    while done < 50 and time.monotonic() < deadline:
        foe.say(foe.good(BAD))
        foe.hang_up(reset=bool(done % 2))
        done += 1
    assert done >= 5
    wait_for("the flaps are counted", lambda: rig.peer(FOE)["flaps"] >= flaps + done // 2)
    heard_everything(rig, foe)


#: What a peer answers to our OPEN -> words of the reason in /status.
OPENINGS: Final = {
    "another AS": (bgp.opening(65099), "2/2"),
    "version 3": (bgp.opening(FOE_ASN, version=3), "2/1"),
    "hold time 1": (bgp.opening(FOE_ASN, hold_time=1), "2/6"),
    "our router id": (bgp.opening(FOE_ASN, router_id=NODE), ""),
    "options beyond the end": (bgp.message(bgp.OPEN, b"\x04\xfd\xea\x00\x1e\x0a\x63\x01\x03\xff\x02"), ""),
    "no OPEN but an UPDATE": (bgp.update(GOOD, bgp.nlri(BAD)), ""),
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 8, ""),
    "nothing at all": (b"", ""),
    "half an OPEN": (bgp.opening(FOE_ASN)[:25], ""),
    "a NOTIFICATION": (bgp.message(bgp.NOTIFICATION, b"\x02\x02"), "2/2"),
}


@pytest.mark.parametrize("answer", OPENINGS)
def test_session_that_never_comes_up_says_why_and_comes_up_when_it_can(rig: Rig, foe: Hostile, answer: str) -> None:
    heard_everything(rig, foe)
    foe.open_with, words = OPENINGS[answer]
    accepted = foe.accepted
    foe.hang_up()
    wait_for("two more attempts, or one that hangs", lambda: foe.accepted >= accepted + (1 if not words else 2), 30)
    if words:
        wait_for(f"/status says {words}", lambda: words in rig.peer(FOE)["reason"], 20)
    if answer != "our router id":
        assert rig.peer(FOE)["state"] != "established"
    assert PROOF in rig.kernel(), "kept for bgp.stale_time"
    assert BAD not in rig.kernel()


def test_slow_loris_opens_and_speaks_byte_by_byte(rig: Rig, foe: Hostile) -> None:
    text = foe.good(BAD)
    foe.say()
    writer = threading.Thread(target=foe.trickle, args=(text, 0.02))
    writer.start()
    rig.neighbour.announce("192.168.8.0/24")
    wait_for("others are not kept waiting", lambda: "192.168.8.0/24" in rig.kernel(), 1)
    rig.neighbour.withdraw("192.168.8.0/24")
    writer.join()
    wait_for("the route is whole in the end", lambda: BAD in rig.kernel())
    wait_for("the other's is gone", lambda: "192.168.8.0/24" not in rig.kernel())
