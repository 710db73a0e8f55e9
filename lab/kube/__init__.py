"""A real Kubernetes API for lab and tests: how it is built, asked and filled with Calico's objects."""
