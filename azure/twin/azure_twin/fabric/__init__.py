"""The fabric: the kernel's routing in a network namespace, one veth a NIC, no layer 2."""
