"""What is written into a route table, what never is, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.cloudtable import Difference, Node, Table, TableRoute, controller, difference, leftovers, name_of
from bgp_agent.core.prefix import Prefix, parse_address, parse_prefix

A, B, C = (parse_prefix(f"192.168.{n}.0/26") for n in (1, 2, 3))
SIX = parse_prefix("2001:db8:1::/64")
HERE, ELSEWHERE = "10.42.1.4", "10.42.1.5"
NODE = Node("node-a", parse_address(HERE), parse_address("fd00:42::4"))
ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/pods"
TEXT = {A: "192.168.1.0/26", B: "192.168.2.0/26", C: "192.168.3.0/26", SIX: "2001:db8:1::/64"}


def ours(prefix: Prefix, hop: str = HERE) -> TableRoute:
    return TableRoute(name_of(prefix), TEXT[prefix], "VirtualAppliance", hop)


def theirs(name: str, prefix: Prefix, hop: str = ELSEWHERE) -> TableRoute:
    return TableRoute(name, TEXT[prefix], "VirtualAppliance", hop)


def table(*routes: TableRoute, limit: int | None = None, subnets: tuple[str, ...] = ("nodes",)) -> Table:
    return Table(ID, routes, subnets, limit)


def compare(*tables: Table, wanted: tuple[Prefix, ...] = ()) -> Difference:
    return difference(tables, frozenset(wanted), NODE)


def written(result: Difference) -> list[tuple[str, str]]:
    return [("put" if write.put else "delete", write.name) for write in result.writes]


def test_names_are_made_of_the_prefix_alone_and_azure_takes_them() -> None:
    assert name_of(A) == "bgp-agent_192.168.1.0_26"
    assert name_of(SIX) == "bgp-agent_2001-db8-1--_64"
    longest = name_of(parse_prefix("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/128"))
    assert len(longest) <= 80


@pytest.mark.parametrize("prefix", [A, SIX])
def test_what_is_missing_is_put_and_what_is_right_is_left_alone(prefix: Prefix) -> None:
    assert written(compare(table(), wanted=(prefix,))) == [("put", name_of(prefix))]
    done = compare(table(ours(prefix)), wanted=(prefix,))
    only = frozenset({prefix})
    assert (done.writes, done.present, done.right, done.problems) == ((), only, only, {})


def test_additions_come_before_removals() -> None:
    result = compare(table(ours(A)), wanted=(B, C))
    assert written(result) == [("put", name_of(B)), ("put", name_of(C)), ("delete", name_of(A))]


def test_400_routes_that_are_right_need_no_write() -> None:
    prefixes = [parse_prefix(f"192.168.{n // 4}.{n % 4 * 64}/26") for n in range(400)]
    routes = [TableRoute(name_of(p), f"192.168.{n // 4}.{n % 4 * 64}/26", "VirtualAppliance", HERE)
              for n, p in enumerate(prefixes)]  # fmt: skip
    assert compare(table(*routes), wanted=tuple(prefixes)).writes == ()


def test_a_wrong_next_hop_on_a_route_of_ours_is_put_right_where_the_block_is_ours() -> None:
    result = compare(table(ours(A, ELSEWHERE)), wanted=(A,))
    assert written(result) == [("put", name_of(A))]
    assert result.writes[0].why == "not right: it leads to 10.42.1.5"
    assert (result.present, result.right) == (frozenset({A}), frozenset())


def test_a_route_that_leads_elsewhere_is_the_new_owners_and_stays() -> None:
    assert compare(table(ours(A, ELSEWHERE))).writes == ()


def test_a_route_that_azure_could_not_provision_is_written_again() -> None:
    failed = replace(ours(A), state="Failed")
    result = compare(table(failed), wanted=(A,))
    assert result.writes[0].why == "not right: Failed"
    assert written(compare(table(failed))) == [("delete", name_of(A))]


def test_another_name_on_our_prefix_is_a_conflict_and_never_touched() -> None:
    result = compare(table(theirs("firewall", A)), wanted=(A,))
    assert result.writes == ()
    assert "'firewall' of somebody else in pods holds 192.168.1.0/26 and leads to 10.42.1.5" in result.problems[A]


def test_another_name_that_leads_here_does_the_job() -> None:
    result = compare(table(theirs("by-hand", A, HERE)), wanted=(A,))
    assert (result.writes, result.right, result.problems) == ((), frozenset({A}), {})


def test_a_stranger_of_another_kind_is_named_by_its_kind() -> None:
    result = compare(table(TableRoute("drop", TEXT[A], "None", "")), wanted=(A,))
    assert "leads to None" in result.problems[A]


@pytest.mark.parametrize(
    "name", ["bgp-agent_192.168.1.0_26x", "bgp-agent_", "bgp-agent_192.168.1.1_26", "BGP-AGENT_192.168.1.0_26"]
)
def test_names_that_only_resemble_ours_are_strangers(name: str) -> None:
    result = compare(table(TableRoute(name, TEXT[B], "VirtualAppliance", HERE)))
    assert (result.writes, result.present) == ((), frozenset())


def test_our_name_on_another_prefix_is_put_right_or_taken_out() -> None:
    odd = replace(ours(A), prefix=TEXT[B])
    assert written(compare(table(odd), wanted=(A,))) == [("put", name_of(A))]
    assert written(compare(table(odd))) == [("delete", name_of(A))]


def test_a_route_of_ours_that_somebody_gave_a_wanted_prefix_stays() -> None:
    odd = replace(ours(B), prefix=TEXT[A])
    result = compare(table(odd), wanted=(A,))
    assert (result.writes, result.right) == ((), frozenset({A}))


def test_node_1_never_touches_the_routes_of_node_10() -> None:
    ten = TableRoute("node-a0____1921681026", TEXT[A], "VirtualAppliance", HERE)
    assert compare(table(ten)).writes == ()


@pytest.mark.parametrize("name", ["node-b____1921682026", "node-a", "NODE-A"])
def test_the_table_of_the_kubernetes_route_controller_is_refused_with_advice(name: str) -> None:
    result = compare(table(theirs(name, B), ours(C)), wanted=(A,))
    assert result.writes == ()
    assert "Kubernetes route controller" in result.problems[A]
    assert any("--configure-cloud-routes=false" in words for words in result.warnings)


def test_a_full_table_takes_what_fits_and_says_the_rest() -> None:
    result = compare(table(theirs("one", C), limit=2), wanted=(A, B))
    assert written(result) == [("put", name_of(A))]
    assert result.problems[B].startswith("pods is full: it holds 1 of 2 routes")


def test_a_table_that_will_be_full_soon_is_said_before() -> None:
    routes = [TableRoute(f"r{n}", f"10.{n}.0.0/16", "None", "") for n in range(91)]
    assert any("holds 91 of 100 routes" in words for words in compare(table(*routes, limit=100)).warnings)
    assert compare(table(*routes[:90], limit=100)).warnings == ()


def test_a_table_that_no_subnet_uses_is_said() -> None:
    assert compare(table(subnets=())).warnings == (
        "route table pods is associated with no subnet: what is in it reaches nobody",
    )


def test_of_several_tables_each_gets_its_routes_and_right_means_in_all() -> None:
    other = Table(ID.replace("pods", "more"), (), ("system",))
    result = compare(table(ours(A)), other, wanted=(A,))
    assert [(write.table, write.put) for write in result.writes] == [(other.id, True)]
    assert (result.present, result.right) == (frozenset({A}), frozenset())


def test_without_a_table_every_block_says_so() -> None:
    assert compare(wanted=(A,)).problems == {A: "no route table is known; name it in azure.route_tables"}


ROUTES = st.lists(
    st.builds(
        TableRoute,
        name=st.sampled_from([name_of(A), name_of(B), "x", "y", "bgp-agent_x", "node-b"]),
        prefix=st.sampled_from([*TEXT.values(), "VirtualNetwork", "10.0.0.0/8"]),
        kind=st.sampled_from(["VirtualAppliance", "None", "Internet"]),
        next_hop=st.sampled_from([HERE, ELSEWHERE, ""]),
        state=st.sampled_from(["Succeeded", "Failed", "Updating"]),
    ),
    max_size=6,
    unique_by=(lambda route: route.name, lambda route: route.prefix),
)


@given(routes=ROUTES, wanted=st.frozensets(st.sampled_from([A, B, C])))
def test_writing_the_difference_comes_to_rest_and_leaves_strangers_alone(
    routes: list[TableRoute], wanted: frozenset[Prefix]
) -> None:
    after = {route.name: route for route in routes}
    result = difference([table(*after.values())], wanted, NODE)
    for _ in range(4):  # names that somebody edited onto each other's prefixes take a round each
        for write in result.writes:
            assert write.name == name_of(write.prefix), "no other name is ever written"
            if write.put:
                after[write.name] = ours(write.prefix)
            else:
                assert after[write.name].next_hop == HERE, "only what leads here is taken out"
                del after[write.name]
        result = difference([table(*after.values())], wanted, NODE)
    assert result.writes == ()
    assert wanted <= result.right | result.problems.keys()


def test_what_nobody_can_decide_about_is_neither_written_nor_taken_out() -> None:
    result = difference([table(ours(A), ours(B), ours(C, ELSEWHERE))], frozenset({A}), NODE, frozenset({B, C, SIX}))
    assert written(result) == []


def test_a_route_of_our_name_that_leads_elsewhere_is_told() -> None:
    result = compare(table(ours(A), ours(B, ELSEWHERE), theirs("x", C)), table(ours(B)))
    assert (result.present, result.astray, result.right) == (frozenset({A, B}), frozenset({B}), frozenset())


def test_a_node_without_an_address_of_the_family_is_told_and_the_room_in_a_table_counts() -> None:
    four = Node("node-a", parse_address(HERE))
    result = difference([table(limit=1)], frozenset({A, B, SIX}), four)
    assert written(result) == [("put", name_of(A))]
    assert "has no ipv6 address" in result.problems[SIX]
    assert "is full" in result.problems[B]


def test_an_agent_that_leaves_takes_out_what_leads_here_and_nothing_else() -> None:
    found = table(ours(A), ours(B, ELSEWHERE), theirs("x", C, HERE))
    assert [(each.name, each.put) for each in leftovers(found, NODE)] == [(name_of(A), False)]
    assert controller(found, NODE) is None
    assert controller(table(theirs("node-a", C, HERE)), NODE) == "node-a"
