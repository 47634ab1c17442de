"""The invariants of simulated worlds, checked with the venue's facts and the journal."""
