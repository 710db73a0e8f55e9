"""The facts of the hand-over, put together."""
