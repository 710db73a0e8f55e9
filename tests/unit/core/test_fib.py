from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgp_agent.core.fib import ROUND, Failure, Fib, Operation, Verb
from bgp_agent.core.prefix import Prefix, parse_address, parse_prefix
from bgp_agent.core.seen import MAIN, KernelRoute, Seen, Strange
from bgp_agent.core.values import Blackhole, Hop, RouteState, Target, Unicast
from tests.unit.core.kernelmodel import ModelKernel

METRIC, OURS, BIRD = 4096, 179, 12
P, Q = parse_prefix("192.168.2.0/26"), parse_prefix("192.168.3.0/26")
VIA_A = Unicast((Hop(2, parse_address("10.42.1.1")),))
VIA_B = Unicast((Hop(2, parse_address("10.42.1.2")),))
BOTH = Unicast((*VIA_A.hops, *VIA_B.hops))


def ours(prefix: Prefix, target: Seen, table: int = MAIN) -> KernelRoute:
    return KernelRoute(table, prefix, METRIC, OURS, target)


def foreign(prefix: Prefix, metric: int, protocol: int = BIRD, target: Seen = VIA_B) -> KernelRoute:
    return KernelRoute(MAIN, prefix, metric, protocol, target)


def dump(fib: Fib, *routes: KernelRoute) -> None:
    for table in fib.tables:
        fib.begin(table)
        fib.rows(table, routes)
        fib.end(table)


def ready(*routes: KernelRoute, table: int = MAIN, install: bool = True) -> Fib:
    fib = Fib(METRIC, OURS, table, install=install, interface=lambda index: f"eth{index}")
    dump(fib, *routes)
    return fib


def flush(fib: Fib, failures: dict[int, Failure] | None = None, now: float = 0.0) -> list[tuple[str, Prefix]]:
    """One round; returns what was done in words."""
    operations = fib.operations()
    fib.results(operations, failures or {}, now)
    return [(operation.verb.value, operation.prefix) for operation in operations]


def test_a_first_write_is_a_create_that_fails_where_anybody_stands() -> None:
    fib = ready()
    fib.want(P, VIA_A)
    assert fib.pending == 1
    assert fib.operations() == [Operation(Verb.CREATE, P, MAIN, 1, VIA_A)]


def test_what_waits_says_why() -> None:
    fib = ready()
    assert fib.waiting() is None
    fib.want(P, VIA_A)
    assert fib.waiting() == "192.168.2.0/26: about to be written"
    flush(fib, {0: Failure(errno.EPERM, "it needs CAP_NET_ADMIN")})
    assert fib.waiting() == "192.168.2.0/26: it needs CAP_NET_ADMIN"


def test_a_next_hop_that_the_kernel_refuses_is_waited_for_and_nothing_that_could_be_written() -> None:
    fib = ready()
    fib.want_many([(P, VIA_A), (Q, Blackhole())])
    wrong = Failure(errno.EINVAL, "invalid gateway")
    flush(fib, {0: wrong, 1: wrong})
    assert (fib.pending, fib.writable) == (2, 1), "a blackhole has no next hop"
    assert fib.waiting() == "192.168.3.0/26: invalid gateway"
    fib.want(Q, None)
    assert (fib.pending, fib.writable) == (1, 0)
    assert fib.waiting() == "192.168.2.0/26: invalid gateway"
    fib.want(P, VIA_B)
    assert fib.writable == 1, "another next hop has its chance"


def test_a_route_that_stands_as_wanted_is_not_written_again() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, Unicast(VIA_A.hops))
    assert fib.operations() == []
    assert fib.state(P) == (RouteState.INSTALLED, "in the kernel via 10.42.1.1 on eth2")


def test_a_changed_route_is_one_replace_and_a_route_not_wanted_one_delete_of_its_type() -> None:
    fib = ready(ours(P, VIA_A), ours(Q, Blackhole()))
    fib.want_many([(P, BOTH), (Q, None)])
    assert fib.operations() == [
        Operation(Verb.REPLACE, P, MAIN, 1, BOTH),
        Operation(Verb.DELETE, Q, MAIN, 6, None),
    ]


def test_a_blackhole_becomes_the_new_owners_route_in_one_replace() -> None:
    fib = ready(ours(P, Blackhole()))
    fib.want(P, VIA_A)
    assert flush(fib) == [("replace", P)]
    assert fib.operations() == []


def test_nothing_is_written_before_the_kernel_was_read() -> None:
    fib = Fib(METRIC, OURS)
    fib.want(P, VIA_A)
    assert fib.operations() == []
    assert fib.state(P) == (RouteState.PENDING, "not written yet: the kernel's routes have not been read")
    dump(fib)
    assert flush(fib) == [("create", P)]


def test_routes_found_at_the_start_are_adopted_until_somebody_speaks_of_them() -> None:
    fib = ready(ours(P, VIA_A), ours(Q, Strange(7)))
    assert fib.adopted() == {P: VIA_A, Q: Strange(7)}
    assert fib.operations() == []
    assert fib.state(P)[0] is RouteState.INSTALLED
    fib.want(P, VIA_A)
    fib.want(Q, None)
    assert fib.adopted() == {}
    assert fib.operations() == [Operation(Verb.DELETE, Q, MAIN, 7, None)]


def test_not_wanted_said_before_the_first_dump_is_not_forgotten() -> None:
    fib = Fib(METRIC, OURS)
    fib.want(P, None)
    dump(fib, ours(P, VIA_A))
    assert flush(fib) == [("delete", P)]
    assert fib.adopted() == {}


def test_want_again_before_the_delete_was_sent_keeps_the_route() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, None)
    fib.want(P, VIA_A)
    assert fib.operations() == []
    assert fib.state(P)[0] is RouteState.INSTALLED


def test_a_stranger_with_a_lower_metric_shadows_ours_and_is_named() -> None:
    fib = ready(foreign(P, 32))
    fib.want(P, VIA_A)
    assert flush(fib) == [("create", P)]
    assert fib.state(P) == (
        RouteState.SHADOWED,
        "protocol bird (12) holds 192.168.2.0/26 with metric 32; ours stands ready behind it at metric 4096",
    )
    fib.take_changed()
    fib.deleted(foreign(P, 32))
    assert fib.take_changed() == {P}
    assert fib.state(P)[0] is RouteState.INSTALLED


def test_a_stranger_with_a_higher_metric_decides_nothing() -> None:
    fib = ready(foreign(P, 5000))
    fib.want(P, VIA_A)
    flush(fib)
    assert fib.state(P)[0] is RouteState.INSTALLED


def test_a_stranger_at_our_very_key_is_never_written_over_and_ours_follows_when_he_goes() -> None:
    fib = ready(foreign(P, METRIC, 4))
    fib.want(P, VIA_A)
    assert flush(fib) == []
    state, reason = fib.state(P)
    assert state is RouteState.SHADOWED
    assert "protocol static (4) holds 192.168.2.0/26 at our own metric 4096" in reason
    assert fib.pending == 0
    fib.deleted(foreign(P, METRIC, 4))
    assert fib.suspicious
    assert flush(fib) == [("create", P)]


def test_a_stranger_who_replaced_our_route_is_not_replaced_back() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, VIA_A)
    flush(fib)
    fib.new(foreign(P, METRIC))  # no DELROUTE of ours comes with it
    fib.want(P, VIA_B)
    assert flush(fib, {0: Failure(errno.ESRCH, "gone")}) == [("delete", P)]
    assert flush(fib) == []
    assert fib.state(P)[0] is RouteState.SHADOWED


def test_an_unknown_holder_is_looked_for_and_tried_again_later() -> None:
    fib = ready()
    fib.want(P, VIA_A)
    flush(fib, {0: Failure(errno.EEXIST, "somebody is there")}, now=10.0)
    assert fib.suspicious
    assert fib.state(P) == (RouteState.PENDING, "somebody is there")
    dump(fib, foreign(P, METRIC))
    flush(fib)
    assert fib.state(P)[0] is RouteState.SHADOWED
    dump(fib)
    assert flush(fib) == [("create", P)]


def test_a_replace_that_finds_nothing_becomes_a_create() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, VIA_B)
    assert flush(fib, {0: Failure(errno.ENOENT, "nothing there")}) == [("replace", P)]
    assert flush(fib) == [("create", P)]


def test_a_delete_of_what_is_gone_is_done() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, None)
    flush(fib, {0: Failure(errno.ESRCH, "gone")})
    assert flush(fib) == []
    assert (fib.pending, fib.installed, fib.adopted()) == (0, 0, {})


def test_a_failed_write_waits_longer_each_time_says_why_and_holds_up_nobody() -> None:
    fib = ready()
    fib.want_many([(P, VIA_A), (Q, VIA_B)])
    down = Failure(errno.ENETUNREACH, "network unreachable: the link eth2 is down")
    flush(fib, {0: down}, now=100.0)
    assert fib.state(P) == (RouteState.PENDING, down.words)
    assert fib.state(Q)[0] is RouteState.INSTALLED
    waits = []
    for _ in range(8):
        at = fib.next_timer()
        assert at is not None
        fib.handle_timer(at - 0.01)
        assert fib.operations() == []
        fib.handle_timer(at)
        assert flush(fib, {0: down}, now=at) == [("create", P)]
        after = fib.next_timer()
        assert after is not None
        waits.append(after - at)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert fib.pending == 1
    fib.retry_now()
    assert flush(fib) == [("create", P)]
    assert fib.pending == 0


def test_a_failed_delete_says_so_and_is_tried_again() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, None)
    flush(fib, {0: Failure(errno.EPERM, "not permitted")}, now=0.0)
    assert fib.state(P) == (RouteState.PENDING, "not deleted: not permitted")
    fib.handle_timer(1.0)
    assert flush(fib) == [("delete", P)]


def test_a_route_that_somebody_deletes_is_put_back_and_counted() -> None:
    fib = ready()
    fib.want(P, VIA_A)
    flush(fib)
    assert fib.repaired == 0
    fib.deleted(ours(P, VIA_A))
    assert fib.installed == 0
    assert flush(fib) == [("create", P)]
    assert (fib.repaired, fib.installed) == (1, 1)


def test_a_route_that_vanished_without_a_message_is_seen_by_the_next_dump() -> None:
    fib = ready()
    fib.want_many([(P, VIA_A), (Q, VIA_A)])
    flush(fib)
    dump(fib, ours(Q, VIA_A))
    assert flush(fib) == [("create", P)]
    assert fib.repaired == 1


def test_a_route_that_somebody_changed_is_changed_back_and_counted() -> None:
    fib = ready()
    fib.want(P, VIA_A)
    flush(fib)
    fib.new(ours(P, VIA_B))
    assert fib.suspicious
    dump(fib, ours(P, VIA_B))
    assert flush(fib) == [("replace", P)]
    assert fib.repaired == 1


def test_a_route_with_more_in_it_than_we_write_is_not_taken_for_ours_as_wanted() -> None:
    fib = ready(ours(P, VIA_A)._replace(plain=False))
    fib.want(P, VIA_A)
    assert flush(fib) == [("replace", P)]


def test_one_next_hop_taken_out_of_ours_asks_for_a_dump_instead_of_guessing() -> None:
    fib = ready(ours(P, BOTH))
    fib.want(P, BOTH)
    flush(fib)
    fib.deleted(ours(P, VIA_A))
    assert fib.suspicious
    assert fib.operations() == []


def test_what_was_written_while_a_dump_ran_is_not_taken_back_by_it() -> None:
    fib = ready()
    fib.begin(MAIN)
    fib.want(P, VIA_A)
    flush(fib)
    fib.end(MAIN)
    assert fib.state(P)[0] is RouteState.INSTALLED


def test_a_dump_that_disagrees_with_what_was_heard_meanwhile_is_followed_by_another() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, VIA_B)
    fib.begin(MAIN)
    flush(fib)
    fib.rows(MAIN, [ours(P, VIA_A)])  # read before the write
    fib.end(MAIN)
    assert fib.suspicious
    assert fib.state(P)[0] is RouteState.INSTALLED


def test_a_route_put_back_while_a_dump_ran_is_not_missed_because_the_dump_came_between() -> None:
    fib = ready()
    fib.want(P, VIA_A)
    flush(fib)
    fib.begin(MAIN)
    fib.deleted(ours(P, VIA_A))
    flush(fib)
    fib.end(MAIN)
    assert fib.operations() == []
    assert fib.suspicious


def test_an_adopted_route_stays_whatever_a_stranger_does_beside_it() -> None:
    fib = ready(ours(P, VIA_A))
    fib.new(foreign(P, METRIC))
    fib.deleted(foreign(P, METRIC))
    assert fib.operations() == []


def test_a_dump_that_was_given_up_takes_nothing_for_gone() -> None:
    fib = ready(ours(P, VIA_A))
    fib.begin(MAIN)
    fib.begin(MAIN)
    fib.rows(MAIN, [ours(P, VIA_A)])
    fib.end(MAIN)
    assert fib.adopted() == {P: VIA_A}


def test_a_route_over_a_link_that_is_down_is_not_tried_until_the_link_is_back() -> None:
    down: dict[int, str] = {2: "the link eth0 is down"}
    fib = Fib(METRIC, OURS, down=down.get)
    dump(fib, ours(Q, VIA_A))
    fib.want_many([(P, BOTH), (Q, VIA_A)])
    assert fib.operations() == []
    assert fib.state(P) == (RouteState.PENDING, "network unreachable: the link eth0 is down")
    assert fib.state(Q)[0] is RouteState.INSTALLED  # it stands, so nothing has to be tried
    assert fib.pending == 1
    fib.want(Q, Blackhole())
    assert flush(fib) == [("replace", Q)]  # a blackhole needs no link
    down.clear()
    fib.retry_now()
    assert flush(fib) == [("create", P)]
    assert fib.pending == 0


def test_with_install_off_nothing_is_written_and_nothing_waits() -> None:
    fib = ready(install=False)
    fib.want(P, VIA_A)
    assert fib.operations() == []
    assert fib.pending == 0
    assert fib.state(P) == (RouteState.PENDING, "not written: kernel.install is off")


def test_messages_about_other_tables_are_nobodys_business() -> None:
    fib = ready(ours(P, VIA_A))
    fib.new(ours(P, VIA_B, table=99))
    fib.deleted(ours(P, VIA_A, table=99))
    assert not fib.suspicious
    assert fib.adopted() == {P: VIA_A}


def test_installed_counts_unicast_routes_alone() -> None:
    fib = ready()
    fib.want_many([(P, VIA_A), (Q, Blackhole())])
    flush(fib)
    assert fib.installed == 1
    fib.want(P, Blackhole())
    flush(fib)
    assert fib.installed == 0


def test_with_an_own_table_the_blackhole_stays_in_main() -> None:
    fib = ready(table=100)
    fib.want_many([(P, VIA_A), (Q, Blackhole())])
    assert [(o.prefix, o.table) for o in fib.operations()] == [(P, 100), (Q, MAIN)]


def test_with_an_own_table_a_released_block_is_written_anew_before_its_blackhole_goes() -> None:
    fib = ready(table=100)
    fib.want(P, Blackhole())
    flush(fib)
    assert flush(fib) == []
    fib.want(P, VIA_A)
    first = fib.operations()
    assert [(o.verb, o.table) for o in first] == [(Verb.CREATE, 100)]
    fib.results(first, {0: Failure(errno.ENETUNREACH, "no")}, 0.0)
    assert fib.operations() == []  # the new one does not stand, so the blackhole does
    fib.handle_timer(9.0)
    flush(fib)
    second = fib.operations()
    assert [(o.verb, o.table) for o in second] == [(Verb.DELETE, MAIN)]
    fib.results(second, {}, 0.0)
    assert fib.operations() == []


def test_with_an_own_table_whoever_has_the_prefix_in_main_forwards() -> None:
    fib = ready(foreign(P, 5000), table=100)
    fib.want(P, VIA_A)
    flush(fib)
    assert fib.state(P)[0] is RouteState.SHADOWED


def test_with_an_own_table_whoever_covers_the_prefix_in_main_forwards_but_for_the_default_route() -> None:
    """Main is asked first, all of it but its default route: a wider route there is no worse than a longer one."""
    wide, default = parse_prefix("192.168.0.0/16"), parse_prefix("0.0.0.0/0")
    fib = ready(foreign(default, 100), foreign(Q, 100), table=100)
    fib.want_many([(P, VIA_A), (parse_prefix("fd00::/64"), VIA_A)])
    flush(fib)
    assert fib.state(P)[0] is fib.standing(P) is RouteState.INSTALLED
    fib.take_changed()
    fib.new(foreign(wide, 5000))
    assert fib.take_changed(), "somebody may look again"
    assert fib.standing(P) is RouteState.SHADOWED
    assert fib.stands(P)
    assert fib.state(P)[1] == (
        "protocol bird (12) holds 192.168.0.0/16 in table main, which is asked before table 100; "
        "ours stands ready behind it at metric 4096"
    )
    assert fib.standing(parse_prefix("fd00::/64")) is RouteState.INSTALLED
    fib.deleted(foreign(wide, 5000))
    assert fib.state(P)[0] is fib.standing(P) is RouteState.INSTALLED
    dump(fib, foreign(wide, 5000), ours(P, VIA_A, 100))
    assert fib.standing(P) is RouteState.SHADOWED


def test_with_an_own_table_an_address_inside_of_an_own_block_does_not_forward_behind_its_blackhole() -> None:
    fib = ready(table=100)
    borrowed = parse_prefix("192.168.2.7/32")
    fib.want_many([(P, Blackhole()), (borrowed, VIA_A)])
    flush(fib)
    assert fib.state(P)[0] is RouteState.INSTALLED
    assert fib.state(borrowed)[0] is fib.standing(borrowed) is RouteState.SHADOWED
    assert fib.state(borrowed)[1].startswith("a route of our own holds 192.168.2.0/26 in table main")
    fib.deleted(ours(P, Blackhole()))
    assert fib.standing(borrowed) is RouteState.INSTALLED


PREFIXES = [P, Q, parse_prefix("192.168.2.7/32"), parse_prefix("fd00::/64")]
VIA_C = Unicast((Hop(3, parse_address("10.43.1.1")),))
TARGETS: list[Target] = [VIA_A, BOTH, VIA_C, Blackhole()]


class AgainstTheKernel(RuleBasedStateMachine):
    """Any order of wants, strangers' acts, lost messages, dumps in pieces and failures ends with desired == seen."""

    table = MAIN

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.kernel = ModelKernel(METRIC, OURS)
        self.fib = Fib(METRIC, OURS, self.table)
        self.wanted: dict[Prefix, Target | None] = {}
        self.strangers: dict[tuple[int, Prefix, int], tuple[int, Seen]] = {}
        self.dumping: list[tuple[int, Prefix | None]] = []
        self.running: int | None = None

    def route(self, key: tuple[int, Prefix, int], protocol: int, target: Seen) -> KernelRoute:
        table, prefix, metric = key
        return KernelRoute(table, prefix, metric, protocol, target)

    def tell(self, route: KernelRoute, *, new: bool, lost: bool) -> None:
        if not lost or route.metric == METRIC:  # at our very key a lost message is the one race that is left
            (self.fib.new if new else self.fib.deleted)(route)

    @rule(prefix=st.sampled_from(PREFIXES), aim=st.sampled_from([*TARGETS, None]))
    def want(self, prefix: Prefix, aim: Target | None) -> None:
        self.wanted[prefix] = aim
        self.fib.want(prefix, aim)

    @rule(prefix=st.sampled_from(PREFIXES), metric=st.sampled_from([0, METRIC, 9000]), lost=st.booleans())
    def a_stranger_replaces(self, prefix: Prefix, metric: int, lost: bool) -> None:
        self.kernel.routes[MAIN, prefix, metric] = self.strangers[MAIN, prefix, metric] = (BIRD, VIA_B)
        self.tell(foreign(prefix, metric), new=True, lost=lost)

    @rule(data=st.data(), lost=st.booleans())
    @precondition(lambda self: self.strangers)
    def a_stranger_deletes_his_own(self, data: Any, lost: bool) -> None:  # noqa: ANN401 (Hypothesis has no public type)
        key = data.draw(st.sampled_from(sorted(self.strangers)))
        protocol, target = self.strangers.pop(key)
        del self.kernel.routes[key]
        self.tell(self.route(key, protocol, target), new=False, lost=lost)

    @rule(data=st.data(), lost=st.booleans())
    @precondition(lambda self: len(self.kernel.routes) > len(self.strangers))
    def somebody_deletes_ours(self, data: Any, lost: bool) -> None:  # noqa: ANN401
        key = data.draw(st.sampled_from(sorted(self.kernel.routes.keys() - self.strangers.keys())))
        protocol, target = self.kernel.routes.pop(key)
        if not lost:
            self.fib.deleted(self.route(key, protocol, target))

    @rule()
    def a_link_takes_its_routes_along(self) -> None:
        for key, (protocol, target) in list(self.kernel.routes.items()):
            if protocol == OURS and isinstance(target, Unicast) and target.hops[0].interface == 3:
                del self.kernel.routes[key]
        self.kernel.unreachable = {3}

    @rule()
    def the_link_is_back(self) -> None:
        self.kernel.unreachable = set()
        self.fib.retry_now()

    @rule()
    def flush(self) -> None:
        self.now += 0.3
        self.fib.handle_timer(self.now)
        while operations := self.fib.operations():
            self.fib.results(operations, self.kernel.apply(operations), self.now)

    @rule()
    def a_dump_goes_on(self) -> None:
        if not self.dumping:
            for table in self.fib.tables:
                self.dumping += [(table, prefix) for prefix in [*PREFIXES, None]]
        table, prefix = self.dumping.pop(0)
        if table != self.running:
            self.running = table
            self.fib.begin(table)
        if prefix is None:
            self.fib.end(table)
            self.running = None
        else:
            self.fib.rows(table, [row for row in self.kernel.rows(table) if row.prefix == prefix])

    @rule()
    def the_agent_was_there_before(self) -> None:
        """A new agent on the same kernel."""
        self.fib = Fib(METRIC, OURS, self.table)
        self.dumping, self.running = [], None
        self.wanted = {prefix: target for prefix, target in self.wanted.items() if prefix != P}
        self.fib.want_many(self.wanted.items())

    @invariant()
    def strangers_are_untouched(self) -> None:
        assert self.kernel.overwritten == []
        assert self.kernel.strangers() == self.strangers

    def teardown(self) -> None:
        self.the_link_is_back()
        self.dumping, self.running = [], None
        for _ in range(3):
            self.now += 100
            for table in self.fib.tables:
                self.fib.begin(table)
                self.fib.rows(table, self.kernel.rows(table))
                self.fib.end(table)
            self.flush()
        for prefix, target in self.wanted.items():
            for table in self.fib.tables:
                home = MAIN if isinstance(target, Blackhole) else self.table
                expected = target if table == home else None
                if (table, prefix, METRIC) in self.strangers:
                    assert self.fib.state(prefix)[0] is not RouteState.INSTALLED or target is None or expected is None
                else:
                    assert self.kernel.ours(table).get(prefix) == expected
        assert self.fib.pending == 0
        self.strangers_are_untouched()


class WithAnOwnTable(AgainstTheKernel):
    table = 100


Against = AgainstTheKernel.TestCase
Against.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
Own = WithAnOwnTable.TestCase
Own.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("count", [1000])
def test_ten_times_the_prefixes_are_ten_times_the_work_and_no_more(count: int) -> None:
    fib = ready()
    prefixes = [Prefix(b"\x0a" + number.to_bytes(3, "big") + b"\x20") for number in range(count)]
    fib.want_many((prefix, VIA_A) for prefix in prefixes)
    flush(fib)
    fib.want(prefixes[0], VIA_B)
    assert fib.operations() == [Operation(Verb.REPLACE, prefixes[0], MAIN, 1, VIA_B)]


def test_a_new_wish_forgets_what_became_of_the_old_one() -> None:
    fib = ready()
    fib.want_many([(P, VIA_A), (Q, VIA_A)])
    flush(fib, {0: Failure(errno.EPERM, "no")})
    fib.want(Q, None)
    fib.want_many([(P, VIA_B), (Q, VIA_B)])
    assert {operation.prefix for operation in fib.operations()} == {P, Q}
    held = ready(foreign(P, METRIC))
    held.want(P, VIA_A)
    assert held.operations() == []
    held.want(P, BOTH)
    assert held.operations() == [], "still held"


def test_what_is_heard_of_other_tables_is_nothing() -> None:
    fib = ready(ours(P, VIA_A))
    fib.new(ours(P, VIA_B, table=100))
    fib.deleted(ours(P, VIA_A, table=100))
    assert not fib.suspicious
    assert fib.in_kernel() == {P: VIA_A}


def test_a_deletion_of_ours_that_we_never_saw_is_nothing() -> None:
    fib = ready()
    fib.deleted(ours(P, VIA_A))
    assert not fib.suspicious


def test_an_own_route_that_nobody_wants_and_that_goes_before_its_delete_needs_none() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, None)
    fib.deleted(ours(P, VIA_A))
    assert fib.operations() == []


def test_failed_operations_come_due_one_by_one() -> None:
    fib = ready()
    assert fib.next_timer() is None
    fib.handle_timer(5.0)
    fib.want(P, VIA_A)
    flush(fib, {0: Failure(errno.EPERM, "no")}, now=0.0)
    fib.want(Q, VIA_A)
    flush(fib, {0: Failure(errno.EPERM, "no")}, now=0.25)
    fib.handle_timer(0.5)
    assert [operation.prefix for operation in fib.operations()] == [P]
    assert fib.next_timer() == 0.75


def test_the_state_without_words_is_the_state() -> None:
    fib = ready(ours(P, VIA_A), foreign(Q, 100))
    assert not fib.due
    fib.want_many([(P, VIA_A), (Q, VIA_A)])
    assert fib.due
    for prefix in (P, Q, parse_prefix("10.0.0.0/8")):
        assert fib.standing(prefix) is fib.state(prefix)[0]


def test_a_route_that_is_wanted_after_all_is_replaced_and_not_deleted() -> None:
    fib = ready(ours(P, VIA_A))
    fib.want(P, None)
    fib.want(P, VIA_B)
    assert flush(fib) == [("replace", P)]


def test_an_echo_of_what_we_wrote_is_no_reason_to_look_again() -> None:
    fib = ready(ours(P, VIA_A))
    fib.new(ours(P, VIA_A))
    assert not fib.suspicious


def test_more_than_a_round_is_done_in_several() -> None:
    fib = ready()
    many = [Prefix(bytes((10, n >> 8, n & 255, 0, 24))) for n in range(ROUND + 1)]
    fib.want_many([(prefix, VIA_A) for prefix in many])
    assert [len(flush(fib)) for _ in range(3)] == [ROUND, 1, 0]
    assert fib.in_kernel().keys() == set(many)
