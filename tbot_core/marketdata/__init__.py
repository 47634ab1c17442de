"""Bars: the store of past sessions, live feeds, and the health of the data."""
