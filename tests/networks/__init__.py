"""Architectures the tests run on: three with real weights, and small random ones for the common families."""
