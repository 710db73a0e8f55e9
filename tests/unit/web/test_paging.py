"""Pages over a table, also while it changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Address, Prefix, network, overlaps, parse_prefix
from bgp_agent.core.values import RouteState
from bgp_agent.web.paging import order, select

PREFIXES = st.one_of(
    st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 32)),
    st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 128)),
).map(lambda pair: network(Address(pair[0]), pair[1]))
TABLES = st.dictionaries(PREFIXES, st.sampled_from(RouteState), max_size=40)


def walk(table: dict[Prefix, RouteState], limit: int, state: RouteState | None, prefix: Prefix | None) -> list[Prefix]:
    seen: list[Prefix] = []
    cursor = None
    while True:
        page = select(table, state=state, prefix=prefix, cursor=cursor, limit=limit)
        seen += page.prefixes
        if page.cursor is None:
            return seen
        cursor = parse_prefix(page.cursor)


@given(TABLES, st.integers(1, 50), st.none() | st.sampled_from(RouteState), st.none() | PREFIXES)
def test_pages_together_are_the_filtered_table_in_order(
    table: dict[Prefix, RouteState], limit: int, state: RouteState | None, prefix: Prefix | None
) -> None:
    wanted = [key for key, one in table.items() if state in {None, one} and (prefix is None or overlaps(key, prefix))]
    assert walk(table, limit, state, prefix) == sorted(wanted, key=order)


@given(TABLES, PREFIXES)
def test_a_route_that_goes_between_pages_hides_no_other(table: dict[Prefix, RouteState], gone: Prefix) -> None:
    table[gone] = RouteState.INSTALLED
    first = select(table, limit=len(table) // 2 + 1)
    left = {key: one for key, one in table.items() if key != gone}
    cursor = parse_prefix(first.cursor) if first.cursor else None
    second = select(left, cursor=cursor, limit=100).prefixes if first.cursor else ()
    assert {*first.prefixes, *second} >= set(left)
    assert not set(first.prefixes) & set(second)
