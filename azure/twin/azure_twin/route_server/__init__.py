"""The Route Server's instances: real BIRD, configured, watched and asked."""
