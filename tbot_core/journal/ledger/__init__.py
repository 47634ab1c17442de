"""Double-entry bookkeeping of money and shares, and tax lots, from the journal."""
