"""The event log and what its events add up to."""
