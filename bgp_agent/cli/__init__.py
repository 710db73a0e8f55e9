"""The command line: ``bgp-agent COMMAND``. Nothing is imported before the command that needs it is known."""
