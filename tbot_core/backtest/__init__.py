"""Stored and recorded sessions computed again: backtests, sweeps, shadow runs, explanations, and downloads of bars."""
