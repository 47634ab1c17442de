"""One trading session, shared by live, paper and replay; only the clock and the venue differ."""
