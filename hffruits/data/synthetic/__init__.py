"""The drawn sample set."""
