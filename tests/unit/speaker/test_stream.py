from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.speaker.stream import MAX_LINE, EndlessLineError, Stream


def state(word: str) -> bytes:
    return b'{ "exabgp": "5.0.0", "type": "state", "neighbor": { "state": "%s" } }\n' % word.encode()


def opened(*codes: str, direction: str = "receive") -> bytes:
    body = {
        "type": "open",
        "neighbor": {"direction": direction, "open": {"capabilities": {code: {} for code in codes}}},
    }
    return json.dumps(body).encode() + b"\n"


def test_only_up_and_down_say_how_the_session_stands() -> None:
    stream = Stream()
    told = []
    for word in ("connected", "up", "connected", "down", "connected"):
        stream.feed(state(word))
        told.append(stream.established)
    assert told == [False, True, True, False, False]


def test_peers_open_is_kept_and_read_for_graceful_restart() -> None:
    stream = Stream()
    stream.feed(opened("64", direction="send"))
    assert stream.open_line is None
    stream.feed(opened("1", "64"))
    assert stream.open_line == opened("1", "64").rstrip()
    assert stream.peer_restarts_gracefully
    stream.feed(opened("1"))
    assert not stream.peer_restarts_gracefully


def test_hosts_own_answer_is_taken_out_and_the_agents_is_not() -> None:
    stream = Stream()
    stream.asked(b"announce a\nannounce b\n", own=False)
    stream.asked(b"version\n", own=True)
    stream.asked(b"show adj-rib out\n", own=False)
    assert (stream.outstanding, stream.unacked) == (4, 3)
    told = stream.feed(b"done\nerror\nexabgp 5.0.15\n" + state("up") + b"done\nneighbor x 10.0.0.0/8\ndone\n")
    assert told == b"done\nerror\n" + state("up") + b"neighbor x 10.0.0.0/8\ndone\n"
    assert stream.outstanding == 0


def test_answer_that_nobody_asked_for_is_the_agents_to_judge() -> None:
    assert Stream().feed(b"done\n") == b"done\n"


@given(st.lists(st.sampled_from([state("up"), state("down"), b"done\n", b"text\n", b"{broken\n", b"\n"])), st.data())
def test_any_cut_of_the_output_gives_the_same_lines(parts: list[bytes], data: st.DataObject) -> None:
    output = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(output)), max_size=5)))
    cut, whole = Stream(), Stream()
    told = b"".join(cut.feed(output[a:b]) for a, b in zip([0, *cuts], [*cuts, len(output)], strict=True))
    assert told == whole.feed(output) == output
    assert cut.established == whole.established


@given(st.binary(max_size=400))
def test_garbage_raises_nothing(output: bytes) -> None:
    Stream().feed(output)


def test_line_without_end_is_an_error_before_it_fills_the_memory() -> None:
    stream = Stream()
    stream.feed(b"x" * MAX_LINE)
    with pytest.raises(EndlessLineError):
        stream.feed(b"x")
