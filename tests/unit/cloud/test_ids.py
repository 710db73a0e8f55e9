from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.cloud import ids
from bgp_agent.cloud.ids import ResourceId, resource_id

TABLE = "/subscriptions/0000/resourceGroups/My-Group(1)/providers/Microsoft.Network/routeTables/rt.1"


def test_an_id_is_taken_apart() -> None:
    route = ids.child(resource_id(TABLE), "routes", "r1")
    assert ids.parent(route) == TABLE
    assert (ids.name(route), ids.short(route)) == ("r1", "routeTables/rt.1/routes/r1")
    assert ids.group(route) == "/subscriptions/0000/resourceGroups/My-Group(1)"
    assert ids.subscription(route) == "/subscriptions/0000"
    assert ids.same(TABLE, TABLE.upper() + "/")
    assert not ids.same(None, None)
    assert resource_id(TABLE + "/") == TABLE


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "rt1", "subscriptions/x", "/subscriptions", "/subscriptions/", "/subscriptions/x/resourceGroups",
        "@evil.example/subscriptions/x", "/subscriptions/../x", "/subscriptions/x/..", "/subscriptions/x?y=1",
        "/subscriptions/x#y", "/subscriptions//x", "/subscriptions/x\n", "/subscriptions/%2e%2e", "/subscriptions/x y",
        "https://evil.example/subscriptions/x", "/subscriptions/" + "x" * 2000, "/subscriptions/.",
    ],
)  # fmt: skip
def test_what_could_lead_the_token_elsewhere_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="is no resource ID"):
        resource_id(text)


@given(st.text(max_size=80) | st.text(alphabet="/.@?#%:\\subscription ", max_size=80).map("/subscriptions/x/{}".format))
def test_an_id_that_is_taken_stays_in_its_path(text: str) -> None:
    try:
        found = resource_id(text)
    except ValueError:
        return
    path = ids.path(found)
    assert path.startswith("/subscriptions/")
    assert unquote(path) == found
    assert not set("?#@\\ ") & set(path)
    assert not {".", ".."} & set(found.split("/"))


@given(st.text(max_size=90))
def test_a_name_adds_one_segment_or_is_refused(name: str) -> None:
    parent = ResourceId(TABLE)
    try:
        found = ids.child(parent, "routes", name)
    except ValueError:
        return
    assert ids.parent(resource_id(found)) == TABLE
    assert ids.path(found) == ids.path(TABLE) + f"/routes/{name}"
