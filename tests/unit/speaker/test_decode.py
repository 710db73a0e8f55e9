"""ExaBGP's lines as values: every line seen from the real one, and whatever else might come."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bgp_agent.core import values
from bgp_agent.core.prefix import Family, parse_address, parse_prefix
from bgp_agent.core.values import EndOfRib, Notified, RefreshBegin, RefreshEnd, Update
from bgp_agent.speaker import decode as module
from bgp_agent.speaker.decode import Decoder, LineError, PeerOpen, SessionState
from bgp_agent.speaker.definition import PeerDefinition
from tests.unit.speaker.model import OPEN, update_line

PEER: Final = "10.99.1.2"
DEFINITION: Final = PeerDefinition(PEER, 65515, 65001, "10.99.1.1", families=(Family.IPV4, Family.IPV6))
SAMPLES: Final = [
    json.loads(line) for line in (Path(__file__).parent / "samples" / "exabgp-samples.jsonl").read_text().splitlines()
]
LINES: Final = {sample["tag"]: sample["raw"].encode() for sample in SAMPLES if sample.get("is_json", True)}
ATTRIBUTES: Final = '"origin": "igp", "as-path": {"0": {"element": "as-sequence", "value": [65515]}}'


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(DEFINITION)


def announcing(nlri: str, attributes: str = ATTRIBUTES, hop: str = "10.99.1.2") -> bytes:
    reach = f'"announce": {{ "ipv4 unicast": {{ "{hop}": [ {nlri} ] }} }}'
    return update_line(f'{{ "update": {{ "attribute": {{ {attributes} }}, {reach} }} }}')


def announced(decoder: Decoder, attributes: str, nlri: str = '"10.1.0.0/24"', hop: str = "10.99.1.2") -> values.Path:
    value = decoder.decode(announcing(nlri, attributes, hop))
    assert isinstance(value, Update)
    return value.announced[0][0]


def kind_of(raw: str) -> type[object] | None:
    """What a sample must become, read off the line the slow way."""
    line = json.loads(raw)
    neighbor = line.get("neighbor", {}) if isinstance(line, dict) else {}
    received = neighbor.get("direction", "receive") == "receive"
    match line.get("type") if isinstance(line, dict) else None:
        case "state":
            return SessionState if neighbor["state"] != "connected" else None
        case "notification":
            return Notified if neighbor else None
        case "open":
            return PeerOpen if received else None
        case "refresh":
            words = neighbor["route-refresh"]
            good = words["safi"] == "unicast" and words["subtype"] != "query"
            return {"begin": RefreshBegin, "end": RefreshEnd}[words["subtype"]] if good else None
        case "update" if received and "category" not in neighbor["message"]:
            return EndOfRib if "eor" in neighbor["message"] else Update
    return None


@pytest.mark.parametrize("tag", [tag for tag in LINES if not tag.startswith("answer: show neighbor")])
def test_every_line_seen_from_the_real_one_is_what_it_says(tag: str, decoder: Decoder) -> None:
    wanted = kind_of(LINES[tag].decode())
    if tag.startswith("answer:"):  # never given to the decoder, but it must bear them
        with pytest.raises(LineError):
            decoder.decode(LINES[tag])
        return
    value = decoder.decode(LINES[tag])
    assert (None if value is None else type(value)) is wanted
    if isinstance(value, Update):
        assert not value.malformed


def test_an_open_settles_families_hold_time_refresh_and_graceful_restart(decoder: Decoder) -> None:
    opened = decoder.decode(LINES["open-receive"])
    local = parse_address("10.99.1.1")
    assert opened == PeerOpen(frozenset(Family), 30, "enhanced", graceful_restart=True, local=local)
    only_ipv4 = PeerDefinition(PEER, 65515, 65001, "10.99.1.1", hold_time=120, graceful_restart=0)
    opened = Decoder(only_ipv4).decode(LINES["open-receive"])
    assert opened == PeerOpen(frozenset({Family.IPV4}), 90, "enhanced", graceful_restart=False, local=local)
    plain = decoder.decode(OPEN.replace(b'"70"', b'"71"'))
    assert isinstance(plain, PeerOpen)
    assert plain.refresh == "plain"
    bare = decoder.decode(OPEN.replace(b'"1":', b'"99":').replace(b'"2":', b'"98":'))
    assert isinstance(bare, PeerOpen)
    assert (bare.families, bare.refresh) == (frozenset(), "none")


@pytest.mark.parametrize(
    ("old", "new"), [(b'"hold_time": 90', b'"hold_time": "x"'), (b'"families": [', b'"families": [ 1,')]
)
def test_an_open_that_makes_no_sense_is_refused_by_name(old: bytes, new: bytes, decoder: Decoder) -> None:
    with pytest.raises(LineError, match="OPEN"):
        decoder.decode(OPEN.replace(old, new))


def test_withdrawals_and_announcements_of_one_update_are_kept_apart(decoder: Decoder) -> None:
    update = decoder.decode(LINES["parsed: same prefix in withdraw and announce -> update"])
    prefix = parse_prefix("10.1.1.0/24")
    assert isinstance(update, Update)
    assert update.withdrawn == (prefix,)
    assert update.announced[0][1] == (prefix,)


def test_a_global_next_hop_wins_over_the_link_local_one_beside_it(decoder: Decoder) -> None:
    update = decoder.decode(LINES["parsed: ipv6 announce (global+LL NH) -> update"])
    assert isinstance(update, Update)
    assert [(path.next_hop, prefixes) for path, prefixes in update.announced] == [
        (parse_address("fd99:2::2"), (parse_prefix("2001:db8:6::/64"),))
    ]
    alone = LINES["parsed: ipv6 announce (global+LL NH) -> update"].replace(b'"fd99:2::2"', b'"fe80::2"')
    update = decoder.decode(alone)
    assert isinstance(update, Update)
    assert {path.next_hop for path, _ in update.announced} == {parse_address("fe80::1"), parse_address("fe80::2")}


@pytest.mark.parametrize(
    ("tag", "error"),
    [
        ("parsed: missing NEXT_HOP -> update", "no next hop"),
        ("parsed: missing ORIGIN -> update", "no ORIGIN"),
        ("parsed: missing all attributes but NLRI -> update", "no next hop"),
        ("parsed: ORIGIN invalid value 9 -> update", "ORIGIN is none of"),
        ("parsed: empty AS path (eBGP) -> update", "no AS_PATH"),
    ],
)
def test_attributes_that_rfc_7606_refuses_carry_the_reason(tag: str, error: str, decoder: Decoder) -> None:
    update = decoder.decode(LINES[tag])
    assert isinstance(update, Update)
    ((path, prefixes),) = update.announced
    assert error in (path.error or "")
    assert len(prefixes) == 1


def test_an_internal_peer_may_send_an_empty_path() -> None:
    update = Decoder(PeerDefinition(PEER, 65001, 65001, "10.99.1.1")).decode(
        LINES["parsed: empty AS path (eBGP) -> update"]
    )
    assert isinstance(update, Update)
    assert update.announced[0][0].error is None


def test_treat_as_withdraw_withdraws_and_what_it_still_announces_is_refused(decoder: Decoder) -> None:
    update = decoder.decode(LINES["parsed: community bad length (3) -> update"])
    assert update == Update(PEER, (parse_prefix("10.4.2.0/24"),), ())
    assert "treat-as-withdraw" in (announced(decoder, f'{ATTRIBUTES}, "error": "treat-as-withdraw"').error or "")
    assert announced(decoder, f'{ATTRIBUTES}, "error": "discard due to aggregator"').error is None


def test_attributes_are_read(decoder: Decoder) -> None:
    path = announced(
        decoder,
        '"origin": "incomplete", "as-path": {"1": {"element": "as-set", "value": [1, 2]}, "10": {"element": "as-set", '
        '"value": [4]}, "0": {"element": "as-sequence", "value": [65515]}, "2": {"element": "as-set", "value": [3]}}, '
        '"med": 5, "local-preference": 70, "community": [[65515, 100]], "large-community": [[1, 2, 3]], '
        '"attribute-0xC8-0xE0": "0x61626364"',
    )
    assert path.as_path == (65515, 1, 2, 3, 4)
    assert (path.origin, path.med, path.local_preference) == (2, 5, 70)
    assert path.communities == ("65515:100", "1:2:3")
    assert path.error is None


def test_equal_attributes_are_one_object_also_when_what_is_not_read_differs(decoder: Decoder) -> None:
    one = announced(decoder, ATTRIBUTES)
    assert announced(decoder, ATTRIBUTES, '"10.2.0.0/24"') is one
    assert announced(decoder, f'{ATTRIBUTES}, "attribute-0xC8-0xE0": "0x61"') is one
    assert announced(decoder, f'{ATTRIBUTES}, "med": 1') is not one
    assert announced(decoder, ATTRIBUTES, hop="10.99.1.3") is not one


def test_the_table_of_attributes_is_bounded_and_forgetting_does_not_split_a_path(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 8)
    one = announced(decoder, ATTRIBUTES)
    for med in range(100):
        announced(decoder, f'{ATTRIBUTES}, "med": {med}')
    assert len(decoder._seen) <= 8
    assert len(decoder._paths) <= 9  # nobody holds the others
    assert announced(decoder, ATTRIBUTES) is one


def test_one_bad_nlri_costs_only_itself(decoder: Decoder) -> None:
    bad = ["10.1.0.0/33", "10.1.0.0", "", "x/24", "10.1/16", "2001:db8::/32", "10.1.0.0/+8", "10.1.0.0/ 8", "é/8"]
    texts = ", ".join(json.dumps(text) for text in [*bad, "10.1.0.0/24", "10.1.1.7/24"])
    update = decoder.decode(update_line(f'{{ "update": {{ "withdraw": {{ "ipv4 unicast": [ {texts} ] }} }} }}'))
    assert isinstance(update, Update)
    assert update.withdrawn == (parse_prefix("10.1.0.0/24"), parse_prefix("10.1.1.0/24"))  # host bits mean nothing
    assert [text for text, _ in update.malformed] == bad


def test_nlri_of_the_wrong_form_cost_only_themselves(decoder: Decoder) -> None:
    nlri = '7, {"nlri": null}, {"nlri": "10.1.0.0/24"}, "10.2.0.0/24"'
    reach = f'"ipv4 unicast": {{ "10.99.1.2": [ {nlri} ], "10.99.1.3": 3 }}, "l2vpn vpls": []'
    gone = '"ipv4 unicast": [ [], "10.3.0.0/24" ]'
    update = decoder.decode(
        update_line(
            f'{{ "update": {{ "attribute": {{ {ATTRIBUTES} }}, "withdraw": {{ {gone} }}, "announce": {{ {reach} }} }}}}'
        )
    )
    assert isinstance(update, Update)
    assert update.withdrawn == (parse_prefix("10.3.0.0/24"),)
    assert [prefixes for _, prefixes in update.announced] == [
        (parse_prefix("10.1.0.0/24"), parse_prefix("10.2.0.0/24"))
    ]
    assert len(update.malformed) == 5


def test_attributes_of_the_wrong_form_refuse_the_route_and_not_the_line(decoder: Decoder) -> None:
    path = announced(decoder, f'{ATTRIBUTES}, "med": "many"')
    assert "cannot be read" in (path.error or "")


def test_families_that_nobody_negotiated_and_empty_updates_say_nothing(decoder: Decoder) -> None:
    for message in (
        '{ "update": { } }',
        '{ "update": { "withdraw": { "l2vpn vpls": [ "x" ] } } }',
        '{ "update": { "announce": { "ipv4 multicast": { "10.0.0.1": [ "x" ] } } } }',
        '{ "eor": { "afi": "l2vpn", "safi": "vpls" } }',
        "{ }",
        "null",
    ):
        assert decoder.decode(update_line(message)) is None


def test_what_we_sent_is_no_news_but_a_notification(decoder: Decoder) -> None:
    sent = update_line('{ "update": { "withdraw": { "ipv4 unicast": [ 1 ] } } }').replace(b'"receive"', b'"send"')
    assert decoder.decode(sent) is None
    assert decoder.decode(LINES["update-send-announce-ipv4 unicast(with negotiated block)"]) is None
    told = decoder.decode(LINES["notification-send-3-1"])
    assert told == Notified(PEER, True, 3, 1, "invalid UPDATE, no room for the total path attribute length")  # noqa: FBT003


def test_a_line_of_217_kilobytes_is_read(decoder: Decoder) -> None:
    texts = ", ".join(f'{{ "nlri": "10.{n >> 8}.{n & 255}.0/24" }}' for n in range(8000))
    line = announcing(texts)
    assert len(line) > 217_000
    update = decoder.decode(line)
    assert isinstance(update, Update)
    assert len(update.announced[0][1]) == 8000


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[1]", b"{}", b'{"type": 1}', b"{" * 100_000, b'{"type":"open","neighbor":' * 50_000, b'{"\xff": 1}',
     b'{"type": "state", "time": 1e999}', b'{"type": "open", "neighbor": {}}', b"\x00", b'{"a":' + b"[" * 100_000,
     b'{"type":"update","neighbor":{"message":{"update":{"announce":{"ipv4 unicast":' + b"[" * 100_000],
)  # fmt: skip
def test_lines_that_make_no_sense_raise_one_error(line: bytes, decoder: Decoder) -> None:
    with pytest.raises(LineError):
        decoder.decode(line)


def test_a_key_given_twice_is_read_once(decoder: Decoder) -> None:
    assert decoder.decode(b'{"type": "state", "neighbor": {"state": "down", "state": "up"}}') == SessionState(
        True, "", 0.0  # noqa: FBT003
    )  # fmt: skip


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
WORDS = st.sampled_from(
    [
        *("type", "update", "neighbor", "message", "attribute", "announce", "withdraw", "ipv4 unicast", "nlri"),
        *("ipv6 unicast", "10.0.0.0/8", "10.99.1.2", "open", "state", "up", "as-path", "value", "community", "eor"),
        *("notification", "refresh", "capabilities", "families", "hold_time"),
    ]
)
TREES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(tree=TREES, data=st.data())
def test_no_json_at_all_does_more_than_be_refused(tree: object, data: st.DataObject) -> None:
    decoder = Decoder(DEFINITION)
    line: dict[str, object] = {"type": "update", "neighbor": {"message": {"update": tree}}}
    if data.draw(st.booleans()):
        kind = data.draw(st.sampled_from(["state", "open", "notification", "refresh", "update"]))
        line = {"type": kind, "neighbor": tree}
    try:
        value = decoder.decode(json.dumps(line).encode())
    except LineError:
        return
    if isinstance(value, Update):
        for path, prefixes in value.announced:
            assert path.peer == PEER
            assert prefixes


@given(st.sampled_from(sorted(LINES)), st.integers(0, 2000), st.binary(min_size=1, max_size=3))
@example("open-receive", 300, b"\xff")
def test_a_line_with_a_few_bytes_wrong_is_read_or_refused(tag: str, place: int, noise: bytes) -> None:
    line = LINES[tag]
    place %= len(line)
    with contextlib.suppress(LineError):
        Decoder(DEFINITION).decode(line[:place] + noise + line[place + len(noise) :])
