"""``bgp-agent doctor``: is this machine fit for the agent, and what to do about what is not. It changes nothing."""
