"""Money and shares by double entry, and tax lots, from the journal."""
