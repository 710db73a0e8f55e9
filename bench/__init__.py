"""Benchmarks: this program beside BIRD, FRR and ExaBGP alone, in one run on one machine; ``make bench``."""
