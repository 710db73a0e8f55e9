"""BGP by way of ExaBGP: the host that runs one ExaBGP for each peer, and the agent's side of it.

What the host imports (definition, protocol, host and what it pulls in) stays on the standard library: it must be small
and must go on running while everything else is replaced.
"""
