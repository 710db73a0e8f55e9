"""The control socket: the only way to change what a running agent does, open to root and to the agent's own user."""
