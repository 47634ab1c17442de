"""Projections of the journal's events: books, leases, arming, drills, data health."""
