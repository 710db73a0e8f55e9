"""What the agent shows over HTTP: status, routes, metrics, events and a page for people. It changes nothing."""
