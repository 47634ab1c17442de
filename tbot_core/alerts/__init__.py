"""Alerts: which journal events a person is told of, how they are stored, and how they are sent."""
