from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.speaker.protocol import (
    MAX_FRAME,
    FrameReader,
    Kind,
    Lines,
    Message,
    ProtocolError,
    Snapshot,
    lines,
    message,
)

TEXT = st.text(max_size=40)
FRAMES = st.one_of(
    st.builds(lambda kind, text: message(kind, a=text), st.sampled_from([Kind.HELLO, Kind.LOG, Kind.DEFINE]), TEXT),
    st.builds(
        lambda kind, epoch, data: lines(kind, "10.0.0.4", epoch, data + b"\n"),
        st.sampled_from([Kind.LINES, Kind.COMMANDS]), st.integers(0, 2**32 - 1), st.binary(max_size=200),
    ),
)  # fmt: skip


def read(reader: FrameReader, data: bytes) -> list[Message | Lines]:
    return list(reader.feed(data))


@given(st.lists(FRAMES, max_size=8), st.data())
def test_frames_survive_any_cut_of_the_stream(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    whole = read(FrameReader(), stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, pieces = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        pieces += read(reader, stream[start:end])
    assert pieces == whole
    assert len(whole) == len(frames)


@given(st.binary(max_size=300))
def test_garbage_is_frames_or_refused(data: bytes) -> None:
    try:
        read(FrameReader(), data)
    except ProtocolError:
        return


@given(FRAMES, st.integers(0, 400), st.integers(0, 255))
def test_damaged_frame_is_read_refused_or_waited_for(frame: bytes, place: int, value: int) -> None:
    damaged = bytearray(frame)
    damaged[place % len(damaged)] = value
    try:
        read(FrameReader(), bytes(damaged))
    except ProtocolError:
        return


def test_length_beyond_the_bound_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(ProtocolError, match="bytes"):
        read(FrameReader(), (MAX_FRAME + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b"[]", b"1", b"\xff", b'{"a":'],
    ids=["deep", "list", "number", "no text", "cut"],
)
def test_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    frame = (len(body) + 1).to_bytes(4, "big") + bytes((Kind.HELLO,)) + body
    with pytest.raises(ProtocolError, match="HELLO"):
        read(FrameReader(), frame)


def test_commands_without_an_end_of_line_are_refused() -> None:
    with pytest.raises(ProtocolError, match="COMMANDS"):
        read(FrameReader(), lines(Kind.COMMANDS, "10.0.0.4", 1, b"withdraw rou"))


@given(
    st.builds(
        Snapshot, st.sampled_from(["running", "starting", "stopped"]), st.booleans(), st.floats(0, 1e10),
        st.none() | st.binary(max_size=50), st.integers(0, 1000), st.none() | TEXT, st.integers(0, 2**32 - 1),
    )
)  # fmt: skip
def test_snapshot_survives_the_way_over_the_socket(snapshot: Snapshot) -> None:
    (frame,) = read(FrameReader(), message(Kind.STATE, peer="10.0.0.4", **snapshot.to_json()))
    assert isinstance(frame, Message)
    assert Snapshot.from_json(frame.body) == snapshot


@given(st.dictionaries(st.sampled_from([*Snapshot.__slots__, "open"]), st.none() | TEXT | st.integers()))
def test_any_state_is_a_snapshot_or_refused(raw: dict[str, object]) -> None:
    try:
        Snapshot.from_json(raw)
    except ProtocolError:
        return


def test_missing_text_and_number_are_named() -> None:
    frame = Message(Kind.LOG, {"line": 5, "wait": True})
    with pytest.raises(ProtocolError, match="'line'"):
        frame.text("line")
    with pytest.raises(ProtocolError, match="'wait'"):
        frame.number("wait")
