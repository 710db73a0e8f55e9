"""What there is to see of a twin: the document of ``/twin/status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azure_twin.core.errors import Json
from azure_twin.core.forwarding import ports_of

if TYPE_CHECKING:
    from azure_twin.twin import Twin


def status_of(twin: Twin) -> Json:
    """What each instance holds, who holds which lock, what the links are, what waits."""
    return {
        "time": twin.now(),
        "settled": twin.settled,
        "instances": [
            {
                "order": twin.orders[index],
                "lacks": list(twin.lacks[index]),
                "up": instance.up,
                "held": len(instance.held),
                "programmed": len(instance.programmed),
                "peers": twin.birds[index].status() if index < len(twin.birds) else {},
                "routes": [
                    {
                        "prefix": each.prefix,
                        "peer": each.peer,
                        "next_hop": each.next_hop,
                        "as_path": list(each.as_path),
                    }
                    for each in list(instance.held.values())[:1000]
                ],
            }
            for index, instance in enumerate(twin.instances)
        ],
        "locks": [
            {"lock": each.lock, "operation": each.name, "target": each.target, "due_in": each.due - twin.now()}
            for each in twin.arm.operations.running()
        ],
        "links": [
            {
                "vm": port.vm,
                "nic": port.nic.name,
                "addresses": list(port.addresses),
                "ip_forwarding": port.forwarding,
                "silent": port.vm in twin.silent,
                "here": twin.is_here(port.vm),
            }
            for port in ports_of(twin.arm.effective, twin.settings.vm_nics)
        ],
        "faults": len(twin.faults.waiting),
        "resources": len(twin.arm.store),
        "requests": dict(twin.arm.requests),
    }
