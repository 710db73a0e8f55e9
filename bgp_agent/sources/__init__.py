"""Where the node's own blocks are read from."""
