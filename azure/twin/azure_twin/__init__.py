"""The Azure twin: Route Server, ARM, IMDS and the virtual network's fabric on one Linux machine.

``core`` holds the resources and the rules (no sockets, files or clock: ``now`` is an argument); ``http``,
``route_server`` and ``fabric`` are thin shells around it; ``twin`` is the one place where they meet.
"""

__version__ = "0.1.0"
