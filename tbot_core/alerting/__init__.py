"""Alerts: what of the journal's events a person is told, kept beside the journal and sent outside of the order path."""
