from __future__ import annotations

import contextlib
import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.kernel.wire import (
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    WireError,
    attribute,
    attributes,
    message,
    messages,
    refusal,
    u32,
)


@given(st.lists(st.tuples(st.integers(16, 90), st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=5))
def test_messages_are_read_back_as_they_were_made(made: list[tuple[int, int, bytes]]) -> None:
    data = b"".join(message(kind, 5, sequence, body + bytes(-len(body) % 4)) for kind, sequence, body in made)
    read = [(one.kind, one.sequence, one.body) for one in messages(data)]
    assert read == [(kind, sequence, body + bytes(-len(body) % 4)) for kind, sequence, body in made]


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=5), st.integers(0, 8))
def test_attributes_are_read_back_as_they_were_made(made: list[tuple[int, bytes]], start: int) -> None:
    assert list(attributes(bytes(start) + b"".join(attribute(*one) for one in made), start)) == made


@given(st.binary(max_size=200))
def test_garbage_is_read_or_refused_and_nothing_else_happens(data: bytes) -> None:
    for read in (lambda: list(messages(data)), lambda: list(attributes(data, 0))):
        with contextlib.suppress(WireError):
            read()


@given(st.binary(max_size=120), st.integers(0, 0xFFFF), st.sampled_from([NLMSG_ERROR, NLMSG_DONE]))
def test_a_garbled_refusal_is_read_or_refused(body: bytes, flags: int, kind: int) -> None:
    with contextlib.suppress(WireError):
        refusal(Message(kind, flags, 1, 0, body))


@given(st.integers(0, 60))
def test_what_is_cut_off_is_refused(cut: int) -> None:
    whole = message(24, 1, 7, attribute(1, b"abcd") * 8)
    if cut not in (0, len(whole)):
        with pytest.raises(WireError):
            list(messages(whole[:cut]))


def test_a_refusal_tells_errno_sequence_and_the_kernels_words() -> None:
    header = struct.pack("=IHHII", 60, 24, 5, 77, 0)
    capped = struct.pack("=i", -errno.ENETUNREACH) + header + attribute(1, b"Nexthop has invalid gateway\0")
    said = refusal(Message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, 77, 0, capped))
    assert said == (errno.ENETUNREACH, 77, "Nexthop has invalid gateway")
    whole = struct.pack("=i", -errno.EEXIST) + header + bytes(44) + attribute(1, b"File exists\0")
    assert refusal(Message(NLMSG_ERROR, NLM_F_ACK_TLVS, 77, 0, whole)).text == "File exists"
    assert refusal(Message(NLMSG_DONE, 0, 5, 0, struct.pack("=i", -errno.ENOENT))).errno == errno.ENOENT


def test_a_number_of_another_size_is_refused() -> None:
    with pytest.raises(WireError, match="3 bytes"):
        u32(b"abc")
