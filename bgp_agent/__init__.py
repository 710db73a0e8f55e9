"""Announce this node's pod blocks over BGP, install the peers' blocks, and prove both."""

__version__ = "0.1.0"
