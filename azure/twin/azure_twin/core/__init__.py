"""The twin's rules: resources, operations, rights, routes. Values in, values out; ``now`` (seconds) is an argument."""
