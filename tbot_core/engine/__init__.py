"""Runs sessions minute by minute: live, paper and replay differ only in clock and venue."""
