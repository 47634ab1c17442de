"""Money and shares as the journal's events tell of them: double entry, and lots."""
