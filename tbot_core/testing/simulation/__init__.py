"""The world of the deterministic simulation: virtual time, venues, wires that fail, prices; all of it from a seed."""
