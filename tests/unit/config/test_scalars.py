# ruff: noqa: E501 - one case a line
from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from exabgp.configuration.static.parser import _community, _large_community
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.config import scalars


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("500ms", 0.5), ("2m", 120.0), ("720h", 720 * 3600.0), ("0s", 0.0), (0, 0.0)]
)
def test_durations(text: object, seconds: float) -> None:
    assert scalars.read_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["30", 30, -1, "", "s", "1.5s", "-1s", "30 s", "30S", "1d", "1h30m", "٣s", None, True, "721h", "9" * 30 + "s"],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration|longest"):
        scalars.read_duration(text)


@given(st.integers(0, int(scalars.MAX_DURATION * 1000)))
def test_a_duration_survives_being_written(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    text = scalars.duration_text(seconds)
    assert scalars.read_duration(0 if text == "0" else text) == pytest.approx(seconds, abs=1e-9)


READERS: list[Callable[[object], object]] = [
    scalars.read_duration, scalars.read_address, scalars.read_address4, scalars.read_address6, scalars.read_prefix,
    scalars.read_asn, scalars.read_community, scalars.read_listen, scalars.read_url,
]  # fmt: skip


@given(
    st.sampled_from(READERS),
    st.text()
    | st.integers()
    | st.none()
    | st.booleans()
    | st.lists(st.integers())
    | st.text("0123456789:./[]msh", max_size=20),
)
def test_a_reader_gives_a_value_that_it_reads_again_or_a_reason(
    reader: Callable[[object], object], value: object
) -> None:
    try:
        found = reader(value)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - any value may be refused
    else:
        assert reader(found) == found


@given(st.ip_addresses())
def test_every_address_is_read_as_canonical_text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert ipaddress.ip_address(scalars.read_address(str(address))) == address
    assert scalars.read_address(address.exploded if address.version == 6 else str(address)) == scalars.read_address(
        str(address)
    )


@pytest.mark.parametrize("text", ["10.0.0", "10.0.0.256", "010.0.0.1", "fe80::1%eth0", "", " 10.0.0.1", 1, None, "::g"])
def test_what_is_no_address_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"address|zone"):
        scalars.read_address(text)


def test_families_are_told_apart() -> None:
    with pytest.raises(ValueError, match="is not an IPv4 address"):
        scalars.read_address4("fd00::4")
    with pytest.raises(ValueError, match="is not an IPv6 address"):
        scalars.read_address6("10.0.0.1")


@pytest.mark.parametrize("asn", [1, 64512, 65535, 4294967295])
def test_as_numbers(asn: int) -> None:
    assert scalars.read_asn(asn) == asn


@pytest.mark.parametrize("asn", [0, -1, 23456, 4294967296, "64512", 1.5, True, None])
def test_what_is_no_as_number_is_refused(asn: object) -> None:
    with pytest.raises(ValueError, match=r"AS number|AS_TRANS"):
        scalars.read_asn(asn)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("64512:10", "64512:10"), ("0064:010", "64:10"), ("65535:65535", "65535:65535"), ("4200000000:1:2", "4200000000:1:2"),
     ("No_Export", "no-export"), ("nopeer", "no-peer"), ("blackhole", "blackhole")],
)  # fmt: skip
def test_communities_are_what_exabgp_takes(text: str, canonical: str) -> None:
    assert scalars.read_community(text) == canonical
    parser = _large_community if canonical.count(":") == 2 else _community
    assert str(parser(canonical)) == canonical


@pytest.mark.parametrize(
    "text", ["65536:1", "1:65536", "1", ":1", "1:", "1:2:3:4", "a:b", "1:4294967296:1", 64512, "internet", "-1:1", ""]
)
def test_what_is_no_community_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is no community"):
        scalars.read_community(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:9179", ("127.0.0.1", 9179)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:1", ("localhost", 1)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_end_points(text: str, parts: tuple[str, int]) -> None:
    assert scalars.split_listen(text) == parts
    assert scalars.read_listen(text) == text


@pytest.mark.parametrize(
    "text",
    ["9179", ":9179", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "host:80", 9179, None, "[127.0.0.1]:80"],
)
def test_what_is_no_end_point_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"end point|address"):
        scalars.read_listen(text)


def test_a_url_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="must not hold") as caught:
        scalars.read_url("https://me:hunter2@host/")
    assert "hunter2" not in str(caught.value)
    assert scalars.read_url("https://management.azure.com/") == "https://management.azure.com"
