"""docs/reference/metrics.md, made from the table of metrics."""

from __future__ import annotations

from typing import Final

from bgp_agent.web.metrics import METRICS, PREFIX, Series

_OPENING: Final = """# Metrics

<!-- made by `make docs` from bgp_agent/web/metrics.py -->

`GET /metrics` serves these for Prometheus, at `http.listen` and, where it is set, at `http.metrics_listen`. A state is
one series for each state it can have, 1 for the one it has, so `bgp_agent_peer_state{state="established"} == 0` finds
every peer without a session. Counters count since the start of the agent.

| metric | type | labels | |
|---|---|---|---|
"""

_ALERTS: Final = """
## What to alert on

| | expression | for |
|---|---|---|
| the node is not ready | `bgp_agent_ready == 0` | 2m |
| a peer has no session | `bgp_agent_peer_state{state="established"} == 0` | 1m |
| sessions come and go | `increase(bgp_agent_peer_flaps_total[15m]) > 3` | |
| own blocks are not announced | `sum without (state) (bgp_agent_blocks{state=~"pending\\|withheld"}) > 0` | 2m |
| the network hands a block to another node | `bgp_agent_blocks_verified{verified="misdelivered"} > 0` | |
| kernel routes cannot be written | `bgp_agent_kernel_pending_routes > 0` | 1m |
| somebody takes routes out | `increase(bgp_agent_kernel_repaired_routes_total[15m]) > 0` | |
| the block source was lost | `bgp_agent_source_state{state="synced"} == 0` | 5m |
| a changed config was refused | `bgp_agent_config_ok == 0` | |
| the cloud cannot be asked, so no fallback can be counted on | `bgp_agent_cloud_problem == 1` | 5m |
| the node lives by its route table | `bgp_agent_fallback_state{state="fallback"} == 1` | 10m |
| a route table does not take an own block | `bgp_agent_fallback_routes{state="refused"} > 0` | 1m |
| somebody fights over the route tables | `rate(bgp_agent_cloud_writes_total[15m]) * 60 > 2` | 15m |
| the agent is overloaded | `bgp_agent_event_loop_lag_seconds > 1` | 5m |
"""


def page() -> str:
    """The whole page."""
    return _OPENING + "".join(_row(one) for one in METRICS) + _ALERTS


def _row(one: Series) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    return f"| `{PREFIX}{one.name}` | {'counter' if one.counter else 'gauge'} | {labels} | {one.help} |\n"
