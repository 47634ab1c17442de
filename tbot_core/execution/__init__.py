"""Orders out and answers in: sending, reconciliation, rate limits and trading state."""
