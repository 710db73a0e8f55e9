"""The twin over several containers: each brings its own network namespace, and the fabric is wired into it."""
