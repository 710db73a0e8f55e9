"""Decisions: values in, values out.

Nothing in this package imports asyncio, opens a socket or a file, reads the environment or looks at a clock. Every call
that depends on time takes ``now``: seconds on a clock that only goes forward (the shells pass ``time.monotonic()``).
"""
