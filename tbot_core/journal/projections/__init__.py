"""What the journal's events add up to: books, leases, arming, drills, data health."""
