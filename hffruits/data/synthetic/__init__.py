"""The drawn sample set, for runs that were given no data: fruits drawn by code."""
