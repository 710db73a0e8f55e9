"""Labs in network namespaces, and the hosts that the tests are made of."""
