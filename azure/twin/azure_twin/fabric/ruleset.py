"""The packet filter of the fabric as text for ``nft -f``: who may not forward, and which links are silent (a fault)."""

from __future__ import annotations

from azure_twin.core.forwarding import VOID, Plan


def ruleset(plan: Plan) -> str:
    """The whole table, replaced as one transaction."""
    lines = ["table inet twin", "delete table inet twin", "table inet twin {", "  chain forward {",
             "    type filter hook forward priority 0; policy accept;"]  # fmt: skip
    lines.append(f'    oifname "{VOID}" drop')
    for link in sorted(plan.silent):
        lines += [f'    iifname "{link}" drop', f'    oifname "{link}" drop']
    for port in plan.ports:
        if not port.forwarding:
            own = "{ " + ", ".join(port.addresses) + " }"
            lines += [
                f'    iifname "{port.link}" ip saddr != {own} drop',
                f'    oifname "{port.link}" ip daddr != {own} drop',
            ]
    return "\n".join([*lines, "  }", "}", ""])
