"""Trades sessions minute by minute, live, on paper and in replay alike: only the clock and the venue differ."""
