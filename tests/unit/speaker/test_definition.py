from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Family
from bgp_agent.speaker.definition import DefinitionError, PeerDefinition

GOOD = PeerDefinition("10.42.0.4", 65515, 64512, "10.42.1.4")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_survives_the_way_over_the_socket() -> None:
    peer = PeerDefinition(
        "fd00::4", 65515, 64512, "10.42.1.4", local_address="fd00::1", port=1790, multihop=8, passive=True,
        password="p", families=(Family.IPV4, Family.IPV6), hold_time=0, graceful_restart=0, problem="why",  # noqa: S106
    )  # fmt: skip
    assert PeerDefinition.from_json(json.loads(json.dumps(peer.to_json()))) == peer


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "10.42.0.4; }"), ("address", "10.42.0.04"), ("address", "FD00::1"), ("address", 5),
        ("asn", 0), ("asn", 2**32), ("asn", True), ("local_asn", "64512"), ("router_id", "0.0.0.0"),
        ("router_id", "fd00::1"), ("local_address", "node"), ("local_address", "fd00::1"), ("port", 0),
        ("multihop", 256), ("ttl_security", 0), ("passive", 1), ("password", ""), ("password", "x" * 81),
        ("password", "a\nb"), ("families", ()), ("families", (Family.IPV4, Family.IPV4)), ("hold_time", 2),
        ("graceful_restart", 4096), ("problem", ""),
    ],
)  # fmt: skip
def test_what_exabgp_must_never_see_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(DefinitionError, match=field):
        dataclasses.replace(GOOD, **{field: value})  # type: ignore[arg-type]  # that is the point


def test_password_is_in_no_representation_and_no_error() -> None:
    secret = dataclasses.replace(GOOD, password=KEY)
    assert "s3cret" not in repr(secret)
    with pytest.raises(DefinitionError) as caught:
        dataclasses.replace(GOOD, password="s3cret\n")  # noqa: S106
    assert "s3cret" not in str(caught.value)


@given(JSON)
def test_any_json_is_a_definition_or_refused(raw: object) -> None:
    try:
        PeerDefinition.from_json(raw)
    except DefinitionError:
        return


@given(st.sampled_from([f.name for f in dataclasses.fields(PeerDefinition)]), JSON)
def test_any_value_of_any_field_is_taken_or_refused(field: str, value: object) -> None:
    try:
        read = PeerDefinition.from_json({**GOOD.to_json(), field: value})
    except DefinitionError:
        return
    assert PeerDefinition.from_json(read.to_json()) == read


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(PeerDefinition)])
def test_fingerprint_sees_every_field(field: str) -> None:
    other = {
        "address": "10.42.0.5", "asn": 1, "local_asn": 2, "router_id": "10.0.0.1", "local_address": "10.0.0.1",
        "port": 180, "multihop": 2, "ttl_security": 1, "passive": True, "keyed": True, "password": "p",
        "families": (Family.IPV6,), "hold_time": 31, "graceful_restart": 1, "problem": "x",
    }  # fmt: skip
    changed = dataclasses.replace(GOOD, **{field: other[field]})  # type: ignore[arg-type]
    assert changed.fingerprint != GOOD.fingerprint
    assert dataclasses.replace(GOOD).fingerprint == GOOD.fingerprint


KEY = "s3cret"
KEYED = dataclasses.replace(GOOD, keyed=True, password=KEY)
UNREAD = dataclasses.replace(KEYED, password=None, problem="password_file /key is not there")


def test_an_exabgp_with_its_key_fits_while_the_key_cannot_be_read() -> None:
    assert UNREAD.fits(KEYED.fingerprint)
    assert KEYED.fits(KEYED.fingerprint)


@pytest.mark.parametrize(
    ("wanted", "hosted"),
    [
        (UNREAD, None),
        (UNREAD, dataclasses.replace(KEYED, hold_time=9).fingerprint),
        (UNREAD, GOOD.fingerprint),  # it runs without a key
        (UNREAD, dataclasses.replace(UNREAD, problem="another").fingerprint),
        (KEYED, UNREAD.fingerprint),
        (dataclasses.replace(KEYED, password=KEY[::-1]), KEYED.fingerprint),
        (GOOD, KEYED.fingerprint),
    ],
)
def test_another_exabgp_does_not_fit(wanted: PeerDefinition, hosted: str | None) -> None:
    assert not wanted.fits(hosted)
