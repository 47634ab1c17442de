"""Alerts: which journal events are reported to a person, how they are stored, and how they are sent."""
